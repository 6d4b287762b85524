"""The reader of a call's indexes. It reads candidates in chunks, counts them, and reads records by id or key.

A candidate is an operation that is in the right indexes. The condition of the list may still exclude it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.listing.planner import Plan
from tracker.store.codec import as_hash
from tracker.store.scripts import answering
from tracker.store.store import Store

CHUNK: Final = 500
"""How many candidates are read in one round trip at most."""
FIRST_CHUNK: Final = 100
"""How many candidates the first round trip reads if some may not match. Each further round trip reads twice as many."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The candidates that one round trip has read, in the order of creation.

    `moment`: the time of the Redis server. `entries`: for each candidate its score in the index, which is its creation
    in microseconds, and its record; None when the record is gone.
    """

    moment: Micros
    total: int
    """How many candidates the range has, read or not."""
    entries: Sequence[tuple[int, Record | None]]


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

    async def entries(
        self, part: Range, *, chunk: int, skip: int, whole: bool
    ) -> AsyncIterator[tuple[int, Record | None]]:
        """Yield the candidates of a range: `chunk` of them from the first round trip, more from later ones.

        The first `skip` are not read at all. With `whole` the records include the members.
        """
        while True:
            chunk_read = await self.read(part, most=chunk, skip=skip, whole=whole)
            for entry in chunk_read.entries:
                yield entry
            if len(chunk_read.entries) < chunk:
                return
            part, skip = part.after(chunk_read.entries[-1][0]), 0
            chunk = max(chunk, min(2 * chunk, CHUNK))

    async def read(self, part: Range, *, most: int, skip: int = 0, whole: bool = False) -> Chunk:
        """Read at most `most` candidates from the beginning of a range, in one round trip."""
        moment, total, *flat = await self._store.page(
            lower=part.bounds[0],
            upper=part.bounds[1],
            newest=int(part.newest_first),
            skip=skip,
            most=most,
            whole=int(whole),
            first=len(part.groups[0]),
            sets=[name for group in part.groups for name in group],
        )
        pairs, readable = zip(flat[::2], flat[1::2], strict=True), self._store.readable
        entries = [(int(order), readable(as_hash(stored))) for order, stored in pairs]
        return Chunk(int(moment), total, entries)

    async def count(self, tenant: str, call_id: str, asked: Plan) -> int:
        """How many candidates a plan has, counted by the indexes alone in one round trip."""
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

    async def moment(self) -> Micros:
        """The present time of the Redis server, in microseconds."""
        return (await self.read(Range([[]], None, None), most=0)).moment

    async def named(self, tenant: str, call_id: str, asked: Plan) -> list[Record]:
        """Read the operations that a plan names by their ids. Returns those that satisfy it, with members."""
        ids = self._store.keys.ids(tenant)
        async with answering():
            keys = await self._store.redis.hmget(ids, list(asked.ids or ()))
        records = await self._store.read(str(key) for key in keys if key is not None)
        fitting = (record for record in records if record.call_id == call_id and record.visible)
        return [record for record in fitting if asked.satisfies(record)]

    async def whole(self, found: Sequence[Record], asked: Plan) -> list[Record]:
        """Read records again, with members. Leaves out those that were deleted meanwhile or do not match any more."""
        if not found:
            return []
        return [
            record
            for record in await self._store.read(one.key for one in found)
            if record.visible and asked.satisfies(record)
        ]
