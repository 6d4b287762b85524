"""The diagnosis of one operation: the facts that `tracker why` explains. This module only reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.domain.operation import SECOND, Json, Micros
from tracker.domain.record import Apart, Record
from tracker.errors import NotFound
from tracker.store.keys import type_digest
from tracker.store.record_reader import UnreadableRecord
from tracker.store.scripts import answering
from tracker.store.worker_registry import WorkerRegistry

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.store.store import Store

MAX_REREADS = 5
"""How many times record and facts are read again at most, if the operation changes between the two reads."""
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A position in a queue of `among` operations: `before` of them are in front of this one."""

    before: int
    among: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All facts about one operation at the time `now`. A position or time is None if the operation is not in that set.

    * `queue`: the position among the tickets of its tenant in its lane. `tenants`: how many tenants take turns there.
      `line`: the position in the serial queue of its call. `head`: the first
      operation of that serial queue. `gate`: the position among the operations that wait for the limits of its type.
      `room`: the position among those of its type that wait to run apart.
    * `running`: how many operations of its type run. `let_through`: how many more have passed the limits of the type
      and have not started. `opens`: when the limits are checked next.
    * `suspect`: since when its ticket has been missing.
    * `workers`: our workers by name. `stock_workers`: how many of RQ's own workers are alive.
    """

    record: Record
    now: Micros
    attempts: Sequence[Json]
    workers: Mapping[str, Json]
    stock_workers: int
    suspended: bool
    sweeping: bool
    queue: Waiting | None = None
    tenants: int = 0
    line: Waiting | None = None
    gate: Waiting | None = None
    room: Waiting | None = None
    head: Record | None = None
    running: int = 0
    let_through: int = 0
    opens: Micros | None = None
    suspect: Micros | None = None
    lease: Micros | None = None
    due: Micros | None = None


class Diagnoser:
    """Reads diagnoses. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: "Store", settings: "Settings") -> None:
        self._store, self._redis, self._keys = store, store.redis, store.keys
        self._test_clock = settings.test_clock

    async def find(self, name: str, tenant: str | None) -> list[str]:
        """Find the keys of the operations with the public id `name`. If there is none, `name` itself may be a key.

        Without a tenant all tenants are searched, which scans every key of the server.
        """
        async with answering():
            if tenant is not None:
                owners = [self._keys.ids(tenant)]
            else:
                found = self._redis.scan_iter(match=f"{self._keys.prefix}:ids:*", count=10_000)
                owners = sorted({str(owner) async for owner in found})
            keys = [str(key) for owner in owners if (key := await self._redis.hget(owner, name)) is not None]
        return keys or ([name] if _KEY.fullmatch(name) else [])

    async def diagnose(self, key: str) -> Diagnosis:
        """Read the diagnosis of an operation.

        Raises UnreadableRecord if the record is damaged, and NotFound if there is none, or one of a newer version.
        """
        record = await self._read(key)
        facts = await self._facts(record)
        for _ in range(MAX_REREADS):
            if record.revision == facts.pop("revision"):
                break
            record = await self._read(key)
            facts = await self._facts(record)
        facts.pop("revision", None)
        if facts["head"] is not None:
            facts["head"] = next(iter(await self._store.read([facts["head"]])), None)
        workers = await WorkerRegistry(self._store).live()
        return Diagnosis(
            record=record,
            attempts=await self._store.history(key),
            workers=workers,
            stock_workers=await self._stock_workers(),
            **facts,
        )

    async def _read(self, key: str) -> Record:
        for record in await self._store.read([key]):
            return record
        for reason in (await self._store.damaged([key])).values():
            raise UnreadableRecord(f"The record with the key '{key}' cannot be read: {reason}.")
        raise NotFound(f"There is no operation with the key '{key}'.")

    async def _stock_workers(self) -> int:
        """How many of RQ's own workers are alive."""
        rq, ours = self._keys.rq_prefix, await WorkerRegistry(self._store).known()
        async with answering():
            registered = {str(name) for name in await self._redis.smembers(f"{rq}:workers")}
            others = registered - {f"{rq}:worker:{name}" for name in ours}
            return int(await self._redis.exists(*others)) if others else 0

    async def _facts(self, record: Record) -> dict[str, Any]:
        """Read the other facts of a Diagnosis, and the record's revision, at one moment. `head` is a key here."""
        keys, key = self._keys, record.key
        priority, line = record.policy.priority, keys.serial_queue(record.tenant, record.call_id)
        lane, all_of_lane = keys.ticketed(priority, record.tenant), keys.ticketed_by_all(priority)
        parked, taken = keys.limiter(record.type, "parked"), keys.limiter(record.type, "taken")
        room = keys.apart("worker" if record.apart is Apart.WORKER else "process", record.type)
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(keys.operation(key), "revision")
            pipe.time()
            pipe.get(keys.clock)
            pipe.exists(f"{keys.rq_prefix}:suspended")
            pipe.exists(keys.sweeper)
            for name in (lane, line, parked, room, all_of_lane):
                pipe.zrank(name, key)
                pipe.zcard(name)
            pipe.zcard(keys.turns(priority))
            pipe.zrange(line, 0, 0)
            pipe.zcount(taken, "(0", "+inf")
            pipe.zcount(taken, 0, 0)
            pipe.zscore(keys.limiters, type_digest(record.type))
            for times in (keys.suspects, keys.leases, keys.due):
                pipe.zscore(times, key)
            revision, (seconds, micros), offset, suspended, sweeping, *rest = await pipe.execute()
        queue, line_place, gate, place, former = (_waiting(*rest[at : at + 2]) for at in range(0, 10, 2))
        tenants, head, running, let_through, *stamps = rest[10:]
        return {
            "revision": int(revision or -1),
            "now": seconds * SECOND + micros + (int(offset or 0) if self._test_clock else 0),
            "suspended": bool(suspended),
            "sweeping": bool(sweeping),
            "queue": queue or former,
            "tenants": tenants,
            "line": line_place,
            "gate": gate,
            "room": place,
            "head": head[0] if head else None,
            "running": running,
            "let_through": let_through,
            **dict(zip(("opens", "suspect", "lease", "due"), map(_stamp, stamps), strict=True)),
        }


def _waiting(rank: int | None, among: int) -> Waiting | None:
    return None if rank is None else Waiting(rank, among)


def _stamp(score: float | None) -> Micros | None:
    return None if score is None else int(score)
