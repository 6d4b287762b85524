"""A call's operations, in order, through its indexes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tracker.model import Record
from tracker.scripts import answering
from tracker.store import Store

EXAMINE = 10_000
"""Most operations that a filter without an index of its own looks at for one page."""


FILTER_CHUNK = 500
"""How many of them are read at a time."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a call's list: records, and the order of creation after which the next part starts."""

    records: Sequence[Record]
    cursor: int | None


class Calls:
    """Lists and counts. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(
        self,
        tenant: str,
        call_id: str,
        *,
        status: str | None,
        client_context: str | None,
        cursor: int | None,
        top: int,
    ) -> Slice:
        """A call's operations, newest first, after `cursor`; an unknown call has none.

        With both filters it examines at most EXAMINE operations, and may return fewer with a cursor.
        """
        index = self._index(tenant, call_id, status, client_context)
        found: list[Record] = []
        examined, last = 0, cursor
        chunk = top + 1 if status is None or client_context is None else max(top + 1, FILTER_CHUNK)
        async for order, record in self._walk(index, cursor, chunk=chunk):
            if len(found) == top or examined == EXAMINE:
                return Slice(found, last)
            examined, last = examined + 1, order
            if record is not None and record.visible and (status is None or record.status == status):
                found.append(record)
        return Slice(found, None)

    async def _walk(self, index: str, cursor: int | None, *, chunk: int) -> AsyncIterator[tuple[int, Record | None]]:
        """An index from the newest on: order of creation, and the record unless it went meanwhile."""
        while True:
            ceiling = "+inf" if cursor is None else f"({cursor}"
            async with answering():
                entries: list[tuple[str, float]] = await self._store.redis.zrange(  # type: ignore[assignment] # WITHSCORES
                    index, ceiling, "-inf", desc=True, byscore=True, withscores=True, offset=0, num=chunk
                )
            records = {record.key: record for record in await self._store.read(key for key, _ in entries)}
            await self._prune(index, [key for key, _ in entries if key not in records])
            for key, score in entries:
                cursor = int(score)
                yield cursor, records.get(key)
            if len(entries) < chunk:
                return

    async def _prune(self, index: str, keys: list[str]) -> None:
        """Take out members whose records Redis let go, because nobody swept for all of their time."""
        if not keys:
            return
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.exists(self._store.keys.operation(key))
            gone = [key for key, there in zip(keys, await pipe.execute(), strict=True) if not there]
            if gone:
                await self._store.redis.zrem(index, *gone)

    async def count(self, tenant: str, call_id: str, *, status: str | None, client_context: str | None) -> int:
        """How many of a call's operations match, from the indexes alone."""
        index = self._index(tenant, call_id, status, client_context)
        async with answering():
            if status is None or client_context is None:
                return int(await self._store.redis.zcard(index))
            by_status = self._store.keys.status(tenant, call_id, status)
            return int(await self._store.redis.zintercard(2, [index, by_status]))

    def _index(self, tenant: str, call_id: str, status: str | None, client_context: str | None) -> str:
        if client_context is not None:
            return self._store.keys.context(tenant, call_id, client_context)
        if status is not None:
            return self._store.keys.status(tenant, call_id, status)
        return self._store.keys.call(tenant, call_id)
