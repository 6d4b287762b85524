"""One Redis subscription per process, fanned out to everybody here who waits or follows."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import structlog

from tracker.events.feed import BEGINNING, Position, PositionedEvent, readable, tells_end
from tracker.events.subscriber import listen
from tracker.store.keys import owner_digest

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

REMEMBERED = 4096
"""Operations of which it is remembered that a change was heard, or up to twice as many."""
KEY_LENGTH = 32
"""Characters of an internal key, with which every line begins."""
MOST_BEHIND = 1000
"""Events that a follower may leave untaken."""


class Follower:
    """Takes events as they are told. Whoever takes too slowly loses them all, and is told so."""

    __slots__ = ("_events", "_wanted", "behind", "missed", "stopped")

    def __init__(self) -> None:
        self._events: deque[PositionedEvent] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self.behind = False
        """Whether events were lost because too many were left untaken."""
        self.missed = False
        """Whether events may have been lost with the connection to Redis; for the follower to reset."""
        self.stopped = False
        """Whether this process stops listening."""

    def offer(self, told: PositionedEvent) -> None:
        """Add an event."""
        if len(self._events) >= MOST_BEHIND:
            self.behind = True
            self._events.clear()
        if not self.behind:
            self._events.append(told)
        self.wake()

    def wake(self) -> None:
        """Let `take` return."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def take(self, *, within: float) -> Sequence[PositionedEvent]:
        """All events that there are, as soon as there is one or something to know; none after `within` seconds."""
        if not (self._events or self.behind or self.missed or self.stopped):
            loop = asyncio.get_running_loop()
            self._wanted = loop.create_future()
            timer = loop.call_later(within, self.wake)
            try:
                await self._wanted
            finally:
                timer.cancel()
        events = list(self._events)
        self._events.clear()
        return events


class ChangeWaiter:
    """The next change of an operation: `came` is done with it, or when everybody is woken. Thousands wait at once.

    `came` is the line that told of it, or "".
    """

    __slots__ = ("_key", "_waiting", "came")

    def __init__(self, waiting: dict[str, set["ChangeWaiter"]], key: str) -> None:
        self._waiting, self._key = waiting, key
        self.came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._waiting.setdefault(self._key, set()).add(self)
        return self

    def __exit__(self, *_: object) -> None:
        others = self._waiting.get(self._key)
        if others is not None:
            others.discard(self)
            if not others:
                del self._waiting[self._key]

    def end(self, line: str = "") -> None:
        """Let whoever waits look again."""
        if not self.came.done():
            self.came.set_result(line)

    async def within(self, seconds: float) -> str:
        """Wait for it, but no longer than this; the line that told of it, or "" when there was none."""
        timer = asyncio.get_running_loop().call_later(seconds, self.end)
        try:
            return await self.came
        finally:
            timer.cancel()


class RecentChanges:
    """Which operations' changes have been heard lately. A mark is the number of messages heard before."""

    def __init__(self) -> None:
        self.mark = 0
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._begun = self._begun_older = 0

    def note(self, keys: Iterable[str]) -> None:
        """Changes of these operations were heard, in one message."""
        self.mark += 1
        self._recent.update(dict.fromkeys(keys, self.mark))
        if len(self._recent) >= REMEMBERED:
            self._older, self._recent = self._recent, {}
            self._begun_older, self._begun = self._begun, self.mark

    def forget(self) -> None:
        """Something may have been missed: nothing is certain about what came before."""
        self.mark += 1
        self._begun_older = self._begun = self.mark
        self._recent, self._older = {}, {}

    def since(self, mark: int, key: str) -> bool:
        """Whether the operation may have changed since that mark."""
        return mark < self._begun_older or max(self._recent.get(key, 0), self._older.get(key, 0)) > mark


class Waiters:
    """One kind of change: who waits for an operation's next one, and of which operations one has been heard lately."""

    def __init__(self) -> None:
        self.heard = RecentChanges()
        self.waiting: dict[str, set[ChangeWaiter]] = {}

    def expect(self, key: str) -> ChangeWaiter:
        """The next change of an operation, by internal key, from the `with` on that it is for."""
        return ChangeWaiter(self.waiting, key)

    def tell(self, lines: Mapping[str, str]) -> None:
        """These were heard in one message: the line of each operation, by internal key."""
        self.heard.note(lines)
        for key in self.waiting.keys() & lines.keys():
            self._wake(key, lines[key])

    def wake(self) -> None:
        """Let everybody look again."""
        for key in list(self.waiting):
            self._wake(key)

    def _wake(self, key: str, line: str = "") -> None:
        for change in self.waiting.pop(key):
            change.end(line)


class EventHub:
    """Wakes whoever waits for an operation to change, and hands its events to those who follow.

    A wake-up says only "look again": after a lost connection everybody is woken, since changes may have been missed.
    """

    def __init__(self, redis: "Redis", channel: str) -> None:
        self._redis, self._channel = redis, channel
        self.changes, self.ends = Waiters(), Waiters()
        """All changes, and those by which an operation ends or is no longer there."""
        self._followers: dict[str, set[Follower]] = {}
        self._latest: dict[str, Position] = {}
        self.stopped = False
        """Whether `stop` was called."""
        self.subscribed = asyncio.Event()
        self.overhear: Callable[[Sequence[str]], None] | None = None
        """Who else is given the lines that tell of ends, of every message."""

    @contextmanager
    def follow(self, tenant: str, *, call_id: str | None = None, key: str | None = None) -> Iterator[Follower]:
        """Follow a tenant's operations, those of one of its calls, or one, by internal key."""
        owner = owner_digest(tenant)
        name = key or (owner if call_id is None else f"{owner}\t{call_id}")
        follower = Follower()
        follower.stopped = self.stopped
        followers = self._followers.setdefault(name, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers and self._followers.get(name) is followers:
                del self._followers[name]

    async def run(self) -> None:
        """Listen until cancelled; survives every outage of Redis."""
        await listen(self._redis, self._channel, heard=self._heard, connected=self._connected)

    def stop(self) -> None:
        """Wake everybody for the last time: this process ends."""
        self.stopped = True
        self._wake()
        for follower in self._all_followers():
            follower.stopped = True
            follower.wake()

    def end(self, tenant: str) -> Position:
        """Where the latest message of a tenant's ends that was heard while anybody followed."""
        return self._latest.get(owner_digest(tenant), BEGINNING)

    def _heard(self, _: str, text: str) -> None:
        head, *lines = text.split("\n")
        changes = {line[:KEY_LENGTH]: line for line in lines}
        ends = {key: line for key, line in changes.items() if tells_end(line)}
        self.changes.tell(changes)
        if ends:
            self.ends.tell(ends)
            if self.overhear is not None:
                self.overhear([*ends.values()])
        if self._followers and lines:
            try:
                owner, entry = head.split("\t")
                self._latest[owner] = Position.of(entry, len(lines))
            except ValueError:
                log.warning("message_unreadable", head=head[:200])
            else:
                self._hand_on(owner, entry, lines)

    def _hand_on(self, owner: str, entry: str, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, 1):
            key, _, rest = line.partition("\t")
            call_id = rest.partition("\t")[0]
            groups = [self._followers.get(name) for name in (key, f"{owner}\t{call_id}", owner)]
            event = readable(line) if any(groups) else None
            if event is None:
                continue
            told = PositionedEvent(Position.of(entry, number), event)
            for group in groups:
                for follower in group or ():
                    follower.offer(told)

    def _connected(self, there: bool) -> None:  # noqa: FBT001 - what `listen` tells
        if there:
            self.subscribed.set()
        else:
            self.subscribed.clear()
        for watch in (self.changes, self.ends):
            watch.heard.forget()
        self._wake()
        for follower in self._all_followers():
            follower.missed = True
            follower.wake()

    def _wake(self) -> None:
        self.changes.wake()
        self.ends.wake()

    def _all_followers(self) -> Iterator[Follower]:
        for followers in self._followers.values():
            yield from followers
