"""Ours: `tracker worker`, with handlers that are coroutines or plain functions."""

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
    """One worker with the default room: 100 coroutines, and a plain function per core."""

    packages = ("operation-tracker", "rq", "uvloop", "redis")
    store: Store
    call_id = ""

    def worker(self) -> list[str]:
        """All it takes."""
        room = ["--concurrency", str(CONCURRENCY), "--processes", str(CORES)]
        return [sys.executable, "-m", "tracker.cli.main", "worker", *room]

    async def open(self) -> None:
        """Connect as the API does."""
        settings = load()
        self.store = Store(open_redis(settings), settings)
        await self.store.ready()

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """One operation each, all of one call; created as the API does it, less HTTP."""
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
        """The call's operations with that status, as a list's `$count` has it."""
        return int(self.redis.zcard(self.store.keys.status(TENANT, self.call_id, OperationStatus.COMPLETED)))

    async def results(self) -> list[object]:
        """As the records have them, with the stamps of both transitions."""
        records = {record.key: record for record in await self.store.read(self.ids)}
        return [self._result(records.get(key)) for key in self.ids]

    @staticmethod
    def _result(record: Record | None) -> object:
        if record is None or record.status is not OperationStatus.COMPLETED:
            return None
        return record.members["answer"] if 0 < record.started <= record.completed else None
