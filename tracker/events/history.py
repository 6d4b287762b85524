"""The stored messages of a tenant, which streams read that resume: see `feed` for their form."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracker.events.feed import BEGINNING, Position
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

READ_FIRST = 8
"""How many entries of a feed the first round trip reads."""
READ_AT_ONCE = 100
"""How many entries of a feed are read in one round trip at most."""
READ_BYTES = 64 * 1024
"""A round trip reads fewer entries than the one before if that one has read more bytes than this, and else more."""


class Feed:
    """The feed of one tenant, which keeps `length` messages. Every method raises Unavailable while Redis is away."""

    def __init__(self, redis: "Redis", name: str, length: int) -> None:
        self._redis, self._name, self._length = redis, name, length

    async def end(self) -> Position:
        """The position of the latest change. Later changes have later positions."""
        async with answering():
            last: Any = await self._redis.xrevrange(self._name, count=1)
        for entry, fields in last:
            return Position.of(entry, _text(fields).count("\n") + 1)
        return BEGINNING

    async def holds(self, position: Position) -> bool:
        """Whether the feed still has all changes after a position.

        Redis drops old entries. So the entry of the position must still be there, or the feed must be too short to
        have lost any.
        """
        async with answering():
            if position == BEGINNING:
                return int(await self._redis.xlen(self._name)) < self._length
            return bool(await self._redis.xrange(self._name, position.entry, position.entry, count=1))

    def after(self, position: Position) -> "FeedReader":
        """A reader of the entries from that of the position on."""
        return FeedReader(self._redis, self._name, position)


class FeedReader:
    """Reads the entries of a feed in parts, oldest first, from that of a position on.

    A part is one round trip, and its size in bytes is bounded. Each part but the first begins with the last entry of
    the part before, so that the reader notices when Redis has dropped entries in between.
    """

    def __init__(self, redis: "Redis", name: str, position: Position) -> None:
        self._redis, self._name, self._start, self._count = redis, name, position.entry, READ_FIRST
        self._is_first, self._is_anchored = True, position != BEGINNING
        self.more = True
        """Whether there may be entries that are not read yet."""
        self.lost = False
        """Whether entries are gone that were not read yet."""

    async def read(self) -> list[tuple[str, str]]:
        """Read the next entries, each as its id and its lines. Raises Unavailable while Redis is away."""
        async with answering():
            found: Any = await self._redis.xrange(self._name, self._start, "+", count=self._count + 1)
        entries = [(entry, _text(fields)) for entry, fields in found]
        self.lost = self._is_anchored and (not entries or entries[0][0] != self._start)
        self.more = len(entries) > self._count and not self.lost
        if self.lost or not entries:
            return []
        is_large = sum(len(text) for _, text in entries) > READ_BYTES
        self._count = max(1, self._count // 2) if is_large else min(2 * self._count, READ_AT_ONCE)
        known = 0 if self._is_first else 1
        self._start, self._is_first, self._is_anchored = entries[-1][0], False, True
        return entries[known:]


def _text(fields: Mapping[str, str]) -> str:
    """The text of an entry, which is its only field."""
    return next(iter(fields.values()), "")
