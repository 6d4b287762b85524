"""How operations come to be where they are, what must hold them then, and repair until nothing is wrong."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.consistency import assert_consistent
from tests.scheduling import create, done, now, take
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, OperationStatus
from tracker.domain.record import Record
from tracker.maintenance.verifier import Verifier
from tracker.store.store import Store

Make = Callable[[Store], Awaitable[Record]]
EVERYTHING: dict[str, Any] = {"serial": True, "concurrency": 2, "start_within": 600.0}


async def queued(store: Store) -> Record:
    return await create(store, "all", **EVERYTHING)


async def named(store: Store) -> Record:
    return await create(store, client_context="mine")


async def suspect(store: Store) -> Record:
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


async def in_line(store: Store) -> Record:
    await create(store, "all", **EVERYTHING)
    return await create(store, "all", **EVERYTHING)


async def capped(store: Store) -> Record:
    others = [await create(store, "all", **EVERYTHING, call_id=f"other-{number}") for number in range(3)]
    await take(store)
    return await now(store, others[-1])


async def rated(store: Store) -> Record:
    await create(store, "rated", rate=1, per=600.0, start_within=600.0)
    last = await create(store, "rated", rate=1, per=600.0, start_within=600.0)
    await take(store)
    return await now(store, last)


async def lacked(store: Store) -> Record:
    record = await create(store, "all", **EVERYTHING)
    await take(store, kinds={"test.plain": "coroutines"})
    return await now(store, record)


async def completed(store: Store) -> Record:
    record = await running(store)
    await done(store, record)
    return await now(store, record)


async def tombstone(store: Store) -> Record:
    return await store.apply(lifecycle.hide(await completed(store)))


SEEN = ("call", "status", "ids")
OPEN = ("deadlines", "line", *SEEN)
WAYS: Mapping[Make, tuple[str, ...]] = {
    queued: ("ticketed", "ticket", *OPEN),
    named: ("ticketed", "ticket", "context", *SEEN),
    suspect: ("suspects", *OPEN),
    delayed: ("due", "deadlines", *SEEN),
    retried: ("due", "line", *SEEN),
    running: ("leases", "taken", "line", *SEEN),
    in_line: OPEN,
    capped: ("parked", "gates", *OPEN),
    rated: ("parked", "gates", "deadlines", *SEEN),
    lacked: ("lack", "lacking", *OPEN),
    completed: ("expiries", *SEEN),
    tombstone: ("expiries", "ids"),
}
"""How an operation comes to a place, and what must hold it then."""
SETS = (
    *("ticketed", "ticketed:low", "suspects", "leases", "due", "expiries", "deadlines", "lack", "lack:other"),
    *("parked", "parked:other", "taken", "taken:other", "line", "line:other"),
    *("call", "call:other", "status", "status:other", "context", "context:other"),
)
"""What may hold an operation that it should not."""


def key_of(store: Store, record: Record, place: str) -> str:
    keys, call = store.keys, (record.tenant, record.call_id)
    other = OperationStatus.FAILED if record.status is not OperationStatus.FAILED else OperationStatus.RUNNING
    return {
        **{name: getattr(keys, name) for name in ("suspects", "leases", "due", "expiries", "deadlines")},
        "lacking": keys.unserved_types,
        "gates": keys.limiters,
        "ticketed": keys.ticketed("default"),
        "ticketed:low": keys.ticketed("low"),
        "ticket": keys.queue(),
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
    }[place]


async def mend(store: Store, verifier: Verifier, record: Record) -> None:
    """Repair, round after round, until nothing is wrong."""
    for _ in range(3):
        assert await verifier.repair((await verifier.verify()).faults)
        if not (await verifier.verify()).faults:
            break
    assert (await verifier.verify()).faults == []
    if record.client_context is None:  # the test's own eyes do not look at contexts
        await assert_consistent(store)
