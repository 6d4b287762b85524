"""The reader of a call's indexes. It reads candidates in chunks, counts them, and reads records by id or key.

A candidate is an operation that is in the right indexes. The condition of the list may still exclude it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.listing.planner import Plan
from tracker.store.codec import as_hash
from tracker.store.scripts import answering
from tracker.store.store import Store

CHUNK: Final = 200
"""How many candidates are read in one round trip at most. So no read keeps the server from other clients for long."""
FIRST_CHUNK: Final = 100
"""How many candidates the first round trip reads if some may not match. Each further round trip reads twice as many."""
CHUNK_BYTES: Final = 256 * 1024
"""After how many bytes a round trip reads no more records. The last record of a round trip may go beyond that."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The candidates that one round trip has read, in the order of creation.

    `moment`: the time of the Redis server. `total`: how many candidates the range has, read or not. `skipped`: how many
    of them were left out before the first one that was read.
    """

    moment: Micros
    total: int
    skipped: int
    stored: Sequence[Sequence[str] | str]
    """For each candidate its score in the index, and the fields of its record."""
    readable: Callable[[Mapping[str, str]], Record | None]
    """Decodes the fields of a record; None if they are missing or damaged."""

    def __len__(self) -> int:
        return len(self.stored) // 2

    @property
    def more(self) -> bool:
        """Whether the range has candidates after those that were read."""
        return self.skipped + len(self) < self.total

    @property
    def last(self) -> int:
        """The score of the last candidate."""
        return int(str(self.stored[-2]))

    def entries(self) -> Iterator[tuple[int, Record | None]]:
        """For each candidate its score, which is its creation in microseconds, and its record; None if it is gone.

        Each record is decoded when it is its turn, because clients can make records that are large when decoded.
        """
        for at in range(0, len(self.stored), 2):
            yield int(str(self.stored[at])), self.readable(as_hash(self.stored[at + 1]))


@dataclass(frozen=True, slots=True)
class Range:
    """The candidates of a list: operations in the sets `groups`, created from `first` to `last`, both included.

    A candidate is in one set of each group. There are one or two groups. None is no bound.
    """

    groups: Sequence[Sequence[str]]
    first: Micros | None
    last: Micros | None
    newest_first: bool = True

    @property
    def bounds(self) -> tuple[int | str, int | str]:
        """The bounds as arguments of Redis commands."""
        return "-inf" if self.first is None else self.first, "+inf" if self.last is None else self.last

    def after(self, order: int) -> "Range":
        """The rest of the range after the operation with the score `order`."""
        if self.newest_first:
            return Range(self.groups, self.first, min(order - 1, order - 1 if self.last is None else self.last))
        first = max(order + 1, order + 1 if self.first is None else self.first)
        return Range(self.groups, first, self.last, newest_first=False)


class IndexReader:
    """Reads indexes and records of calls. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def range(self, tenant: str, call_id: str, asked: Plan, *, newest_first: bool = True) -> Range:
        """The range that holds the candidates of a plan."""
        keys, groups = self._store.keys, []
        if asked.contexts is not None:
            groups.append([keys.context(tenant, call_id, context) for context in asked.contexts])
        if asked.statuses is not None:
            groups.append([keys.status(tenant, call_id, status) for status in asked.statuses])
        return Range(groups or [[keys.call(tenant, call_id)]], asked.first, asked.last, newest_first)

    async def read(self, part: Range, *, most: int, skip: int = 0, whole: bool = False) -> Chunk:
        """Read at most `most` candidates from the beginning of a range, in one round trip.

        The first `skip` are not read at all. With `whole` the records include the members. Fewer are read when they
        have more than CHUNK_BYTES together.
        """
        moment, total, *stored = await self._store.page(
            lower=part.bounds[0],
            upper=part.bounds[1],
            newest=int(part.newest_first),
            skip=skip,
            most=most,
            whole=int(whole),
            room=CHUNK_BYTES,
            first=len(part.groups[0]),
            sets=[name for group in part.groups for name in group],
        )
        return Chunk(int(moment), total, skip, stored, self._store.readable)

    async def by_keys(self, keys: Sequence[str], *, whole: bool) -> Iterator[Record | None]:
        """Read the records of the first of these internal keys, at least one, in one round trip. None for one gone.

        Fewer than all are read when they have more than CHUNK_BYTES together.
        """
        stored = await self._store.records(whole=int(whole), room=CHUNK_BYTES, keys=keys)
        return (self._store.readable(as_hash(fields)) for fields in stored)

    async def count(self, tenant: str, call_id: str, asked: Plan) -> int:
        """How many candidates a plan has, counted by the indexes alone."""
        part = self.range(tenant, call_id, asked)
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            if len(part.groups) == 1:
                for name in part.groups[0]:
                    pipe.zcount(name, *part.bounds)
            else:
                for context in part.groups[0]:
                    for status in part.groups[1]:
                        pipe.zintercard(2, [context, status])
            return sum(await pipe.execute())

    async def compared(self, tenant: str, call_id: str, asked: Plan) -> int:
        """How many operations Redis looks at to count the candidates of a plan by its indexes alone.

        A count of one index looks at none. A count of two indexes looks at every operation of the smaller one.
        """
        part = self.range(tenant, call_id, asked)
        if len(part.groups) == 1:
            return 0
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            for name in (name for group in part.groups for name in group):
                pipe.zcard(name)
            sizes: list[int] = await pipe.execute()
        contexts, statuses = sizes[: len(part.groups[0])], sizes[len(part.groups[0]) :]
        return sum(min(one, other) for one in contexts for other in statuses)

    async def moment(self) -> Micros:
        """The present time of the Redis server, in microseconds."""
        return (await self.read(Range([[]], None, None), most=0)).moment

    async def keys_of(self, tenant: str, ids: Sequence[str]) -> list[str]:
        """The internal keys of a tenant's operations with these public ids, as far as they exist."""
        async with answering():
            keys = await self._store.redis.hmget(self._store.keys.ids(tenant), list(ids))
        return [str(key) for key in keys if key is not None]
