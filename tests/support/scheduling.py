"""Operations with policies, and claims as an OperationWorker and RQ's own worker make them."""

import os
from collections.abc import Iterable, Mapping
from random import Random, SystemRandom
from secrets import token_hex
from typing import Any

from redis.asyncio import Redis

from tests.support.records import make_record
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import NotFound
from tracker.store.claim_shares import ClaimShares
from tracker.store.script_replies import ClaimReply, Room
from tracker.store.store import Store

KINDS: Mapping[str, str] = {
    **dict.fromkeys(("test.plain", "test.serial", "test.capped", "test.rated", "test.all"), "coroutines"),
    "test.function": "functions",
    "test.isolated": "apart",
}
"""The types of a worker that has all of them, and the kind of handler of each."""


async def create(store: Store, kind: str = "plain", *, delay: float = 0.0, **options: Any) -> Record:
    """Store an operation of a test type; the options are fields of its record or of its policy."""
    policy = {name: options.pop(name) for name in list(options) if name in Policy.__dataclass_fields__}
    record = make_record(type=f"#test.{kind}", policy=Policy(**policy), **options)
    stored, new = await store.create(record, delay=delay)
    assert new
    return stored


async def claims(
    store: Store,
    worker: str = "w1",
    *,
    coroutines: int = 100,
    functions: int = 100,
    apart: int = 100,
    idle: bool = False,
    kinds: Mapping[str, str] = KINDS,
    turn: int = 0,
    deep: bool = True,
    batch: str = "",
    shares: ClaimShares | None = None,
) -> ClaimReply:
    """Claim as an OperationWorker does. A call with the `batch` of an earlier one repeats that one."""
    room = Room(coroutines, functions, kinds, apart, idle, shares or ClaimShares())
    return await store.claim(worker, room, batch=batch or token_hex(4), turn=turn, deep=deep)


async def take(store: Store, worker: str = "w1", **options: Any) -> list[Record]:
    """Claim, and return the operations that have begun."""
    return list((await claims(store, worker, **options)).started)


async def pop(store: Store, worker: str = "stock", *, kinds: Mapping[str, str] = KINDS) -> ClaimReply | None:
    """Take the next ticket off the queues and claim it, as a stock worker's job does; None when there is none."""
    for lane in ("high", "default", "low"):
        job: Any = await store.redis.lpop(store.keys.queue(lane))
        if job is not None:
            return await store.claim_ticket(job, worker=f"{worker}-{job}", kinds=kinds)
    return None


async def done(store: Store, *records: Record) -> None:
    """End attempts with success."""
    for record in records:
        await store.apply(lifecycle.succeed(record, DONE, {}))


async def now(store: Store, record: Record) -> Record:
    """The record as it is now. Raises NotFound when it is gone."""
    for found in await store.read([record.key]):
        return found
    raise NotFound(record.id)


async def stages(store: Store, records: Iterable[Record]) -> list[Stage]:
    """The stages of the records as they are now."""
    return [(await now(store, record)).stage for record in records]


def ids(records: Iterable[Record]) -> list[str]:
    """Public ids, in order."""
    return [record.id for record in records]


def chance() -> Random:
    """A source of random choices. Its seed is printed; TEST_SEED in the environment repeats one."""
    seed = int(os.environ.get("TEST_SEED") or SystemRandom().randrange(2**32))
    print(f"TEST_SEED={seed}")
    return Random(seed)


async def commands(redis: Redis) -> int:
    """How many commands the server has executed, with those of scripts and without INFO."""
    stats = await redis.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name != "cmdstat_info")
