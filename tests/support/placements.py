"""Operations in each placement, the keys that must hold them there, and repair until no fault is left."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.support.consistency import assert_consistent
from tests.support.scheduling import create, done, now, take
from tracker.domain import blame, lifecycle
from tracker.domain.operation import DONE, OperationStatus
from tracker.domain.record import Apart, Record
from tracker.maintenance.verifier import Verifier
from tracker.store.store import Store

Make = Callable[[Store], Awaitable[Record]]
EVERYTHING: dict[str, Any] = {"serial": True, "concurrency": 2, "start_within": 600.0}


async def queued(store: Store) -> Record:
    return await create(store, "all", **EVERYTHING)


async def with_context(store: Store) -> Record:
    return await create(store, client_context="mine")


async def with_missed_ticket(store: Store) -> Record:
    record = await create(store, "all", **EVERYTHING)
    await store.redis.delete(store.keys.queue())
    await store.overdue(10)
    return record


async def delayed(store: Store) -> Record:
    return await create(store, "all", delay=600, **EVERYTHING)


async def retried(store: Store) -> Record:
    await create(store, "all", **EVERYTHING)
    [record] = await take(store)
    return await store.apply(lifecycle.fail(record, DONE, {}, after=600.0))


async def running(store: Store) -> Record:
    await create(store, "all", **EVERYTHING)
    [record] = await take(store)
    return record


async def waiting_in_serial_queue(store: Store) -> Record:
    await create(store, "all", **EVERYTHING)
    return await create(store, "all", **EVERYTHING)


async def waiting_for_slot(store: Store) -> Record:
    others = [await create(store, "all", **EVERYTHING, call_id=f"other-{number}") for number in range(3)]
    await take(store)
    return await now(store, others[-1])


async def waiting_for_rate(store: Store) -> Record:
    await create(store, "rated", rate=1, per=600.0, start_within=600.0)
    last = await create(store, "rated", rate=1, per=600.0, start_within=600.0)
    await take(store)
    return await now(store, last)


async def waiting_for_type(store: Store) -> Record:
    record = await create(store, "all", **EVERYTHING)
    await take(store, kinds={"test.plain": "coroutines"})
    return await now(store, record)


async def waiting_for_process(store: Store) -> Record:
    """It was in a process that died, and no worker has room for one more process."""
    record = await running(store)
    await store.apply(blame.hand_back_blocked(record, "blocked"))
    await take(store, apart=0)
    return await now(store, record)


async def waiting_for_lone_worker(store: Store) -> Record:
    """Two workers were lost while it ran."""
    record = await running(store)
    await store.apply(blame.hand_back_blocked(record._replace(apart=Apart.WORKER), "blocked"))
    await take(store)
    return await now(store, record)


async def completed(store: Store) -> Record:
    record = await running(store)
    await done(store, record)
    return await now(store, record)


async def deleted(store: Store) -> Record:
    return await store.apply(lifecycle.hide(await completed(store)))


SEEN = ("call", "status", "ids")
OPEN = ("deadlines", "line", *SEEN)
PLACEMENTS: Mapping[Make, tuple[str, ...]] = {
    queued: ("ticketed", "turn", "ticket", *OPEN),
    with_context: ("ticketed", "turn", "ticket", "context", *SEEN),
    with_missed_ticket: ("suspects", *OPEN),
    delayed: ("due", "deadlines", *SEEN),
    retried: ("due", "line", *SEEN),
    running: ("leases", "taken", "line", *SEEN),
    waiting_in_serial_queue: OPEN,
    waiting_for_slot: ("parked", "gates", *OPEN),
    waiting_for_rate: ("parked", "gates", "deadlines", *SEEN),
    waiting_for_type: ("lack", "lacking", *OPEN),
    waiting_for_process: ("process", "processes", "line", *SEEN),
    waiting_for_lone_worker: ("worker", "workers", "line", *SEEN),
    completed: ("expiries", *SEEN),
    deleted: ("expiries", "ids"),
}
"""What makes an operation in each placement, and the keys that must hold it."""
SETS = (
    *("ticketed", "ticketed:low", "ticketed:other", "former"),
    *("suspects", "leases", "due", "expiries", "deadlines", "lack", "lack:other"),
    *("process", "worker", "process:other"),
    *("parked", "parked:other", "taken", "taken:other", "line", "line:other"),
    *("call", "call:other", "status", "status:other", "context", "context:other"),
)
"""Keys that may hold an operation wrongly."""


def key_of(store: Store, record: Record, name: str) -> str:
    keys, call = store.keys, (record.tenant, record.call_id)
    other = OperationStatus.FAILED if record.status is not OperationStatus.FAILED else OperationStatus.RUNNING
    return {
        **{each: getattr(keys, each) for each in ("suspects", "leases", "due", "expiries", "deadlines")},
        "lacking": keys.unserved_types,
        "gates": keys.limiters,
        "ticketed": keys.ticketed("default", record.tenant),
        "ticketed:low": keys.ticketed("low", record.tenant),
        "ticketed:other": keys.ticketed("default", "another"),
        "former": keys.ticketed_by_all("default"),
        "turn": keys.turns("default"),
        "ticket": keys.queue(),
        **dict.fromkeys(("processes", "workers"), keys.apart_types),
        **{need: keys.apart(need, record.type) for need in ("process", "worker")},
        "process:other": keys.apart("process", "#test.other"),
        "lack": keys.unserved(record.type),
        "lack:other": keys.unserved("#test.other"),
        **{part: keys.limiter(record.type, part) for part in ("parked", "taken")},
        **{f"{part}:other": keys.limiter("#test.other", part) for part in ("parked", "taken")},
        "line": keys.serial_queue(*call),
        "line:other": keys.serial_queue("test", "no-such-call"),
        "call": keys.call(*call),
        "call:other": keys.call("test", "no-such-call"),
        "status": keys.status(*call, record.status),
        "status:other": keys.status(*call, other),
        "context": keys.context(*call, record.client_context or "none"),
        "context:other": keys.context(*call, "another"),
        "ids": keys.ids(record.tenant),
    }[name]


async def repair_all(store: Store, verifier: Verifier, record: Record) -> None:
    """Repair in at most three rounds, until no fault is left."""
    for _ in range(3):
        assert await verifier.repair((await verifier.verify()).faults)
        if not (await verifier.verify()).faults:
            break
    assert (await verifier.verify()).faults == []
    if record.client_context is None:  # assert_consistent does not know the index of contexts
        await assert_consistent(store)
