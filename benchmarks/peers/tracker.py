"""The tracker, with handlers that are coroutines or plain functions, for `make bench-workers`."""

import asyncio
import sys
from collections.abc import Sequence
from uuid import uuid4

from benchmarks import operations
from benchmarks.peers.system import CONCURRENCY, CORES, System
from tracker.config import load
from tracker.domain.operation import OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.store.connection import open_redis
from tracker.store.store import Store

TENANT = "bench"
TYPES = {
    ("coroutines", "noop"): operations.Noop,
    ("coroutines", "sleep"): operations.Sleep,
    ("functions", "noop"): operations.NoopFunction,
    ("functions", "sleep"): operations.SleepFunction,
}


class Queue(System):
    """One worker with the default concurrency: 100 coroutines, and a plain function per core."""

    packages = ("operation-tracker", "rq", "uvloop", "redis")
    store: Store
    call_id = ""

    def worker(self) -> list[str]:
        """The command `tracker worker`."""
        room = ["--concurrency", str(CONCURRENCY), "--processes", str(CORES)]
        return [sys.executable, "-m", "tracker.cli.main", "worker", *room]

    async def open(self) -> None:
        """Connect as the API does."""
        settings = load()
        self.store = Store(open_redis(settings), settings)
        await self.store.ready()

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Create one operation per number in one call, by the method of the store that the API calls."""
        self.call_id = f"call-{numbers[0]}"
        kind = TYPES[self.variant, self.workload].odata_type
        return list(await asyncio.gather(*(self._create(kind, number) for number in numbers)))

    async def _create(self, kind: str, number: int) -> str:
        key = uuid4()
        record = Record(
            key=key.hex,
            tenant=TENANT,
            call_id=self.call_id,
            id=str(key),
            type=kind,
            digest=key.hex,
            policy=Policy(),
            members={"number": number},
        )
        stored, _ = await self.store.create(record)
        return stored.key

    def seen(self) -> int:
        """How many operations of the call are Completed, from the index that `$count` reads."""
        return int(self.redis.zcard(self.store.keys.status(TENANT, self.call_id, OperationStatus.COMPLETED)))

    async def results(self) -> list[object]:
        """The answers in the records. A record without the times of its start and its end counts as no result."""
        records = {record.key: record for record in await self.store.read(self.ids)}
        return [self._result(records.get(key)) for key in self.ids]

    @staticmethod
    def _result(record: Record | None) -> object:
        if record is None or record.status is not OperationStatus.COMPLETED:
            return None
        return record.members["answer"] if 0 < record.started <= record.completed else None
