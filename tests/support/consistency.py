"""Checks that records, the keys that hold them in their stages, and RQ's keys agree."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.domain.operation import SECOND
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage
from tracker.store.keys import type_digest
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_constants import LIMITER_RECHECK
from tracker.store.store import Store

FINAL = (Stage.COMPLETED, Stage.FAILED, Stage.TOMBSTONE)
LANES = ("high", "default", "low")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every record and every collection in Redis at one time; `now` is the time of the scripts."""

    records: Mapping[str, Record]
    zsets: Mapping[str, Mapping[str, float]]
    lists: Mapping[str, list[str]]
    sets: Mapping[str, set[str]]
    names: frozenset[str]
    now: int

    def zset(self, name: str) -> Mapping[str, float]:
        """The members of a sorted set; none when the key does not exist."""
        return self.zsets.get(name, {})


async def assert_consistent(store: Store) -> None:
    """Assert that each key holds exactly the operations whose stage it is for. No other client may write meanwhile."""
    seen = await take_snapshot(store)
    _check_indexes(store, seen)
    _check_tickets(store, seen)
    _check_serial_queues(store, seen)
    _check_limiters(store, seen)
    _check_lacking_types(store, seen)
    _check_rq(store, seen)


async def take_snapshot(store: Store) -> Snapshot:
    """Read everything."""
    keys = store.keys
    names = [name async for name in store.redis.scan_iter(count=10_000)]
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, kind in zip(names, await _each(store, "type", names), strict=True):
        kinds[kind].append(name)
    prefix = keys.operation("")
    records = await store.read(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    zsets = await _each(store, "zrange", kinds["zset"], 0, -1, withscores=True)
    return Snapshot(
        {record.key: record for record in records},
        {name: dict(pairs) for name, pairs in zip(kinds["zset"], zsets, strict=True)},
        dict(zip(kinds["list"], await _each(store, "lrange", kinds["list"], 0, -1), strict=True)),
        dict(zip(kinds["set"], await _each(store, "smembers", kinds["set"]), strict=True)),
        frozenset(names),
        await server_time(store),
    )


async def server_time(store: Store) -> int:
    """The time as scripts read it, in microseconds."""
    seconds, micros = await store.redis.time()
    return int(seconds) * SECOND + int(micros) + int(await store.redis.get(store.keys.clock) or 0)


async def _each(store: Store, command: str, names: Iterable[str], *args: Any, **options: Any) -> list[Any]:
    async with store.redis.pipeline(transaction=False) as pipe:
        for name in names:
            getattr(pipe, command)(name, *args, **options)
        answers: list[Any] = await pipe.execute()
        return answers


def _check_indexes(store: Store, seen: Snapshot) -> None:
    """Each operation is in the sorted sets of its stage and in no others; one with a missed ticket is a suspect."""
    keys = store.keys
    others = {keys.limiters, keys.unserved_types, keys.apart_types, keys.litter, keys.workers, keys.known_tenants}
    others |= {keys.turns(lane) for lane in LANES}
    found: dict[str, set[str]] = defaultdict(set)
    for name, members in seen.zsets.items():
        if name.startswith(f"{keys.prefix}:") and name not in others:
            for key in members:
                found[key].add(name)
    assert set(found) <= set(seen.records), f"no records: {set(found) - set(seen.records)}"
    for key, record in seen.records.items():
        expected = set(_indexes(store, seen, record))
        assert found[key] == expected, f"{record.stage} {record.type} {key}: {sorted(found[key] ^ expected)}"


def _indexes(store: Store, seen: Snapshot, record: Record) -> Iterator[str]:
    """The sorted sets that must hold an operation."""
    keys, stage = store.keys, record.stage
    match stage:
        case Stage.QUEUED:
            suspect = record.key in seen.zset(keys.suspects)
            yield keys.suspects if suspect else keys.ticketed(record.policy.priority, record.tenant)
        case Stage.PARKED:
            yield from _index_of_blocker(store, record)
        case Stage.DELAYED:
            yield keys.due
        case Stage.RUNNING:
            yield keys.leases
        case _:
            yield keys.expiries
    if record.start_by and not record.attempt and stage not in FINAL:
        yield keys.deadlines
    if record.policy.serial and stage not in FINAL and (stage is not Stage.DELAYED or record.ticket):
        yield keys.serial_queue(record.tenant, record.call_id)
    if _holds_slot(store, seen, record):
        yield keys.limiter(record.type, "taken")
    if record.visible:
        yield keys.call(record.tenant, record.call_id)
        yield keys.status(record.tenant, record.call_id, record.status)


def _index_of_blocker(store: Store, record: Record) -> Iterator[str]:
    match record.blocker:
        case "serial":
            assert record.policy.serial
        case "cap" | "rate":
            yield store.keys.limiter(record.type, "parked")
        case "type":
            yield store.keys.unserved(record.type)
        case "apart":
            yield store.keys.apart(_need(record), record.type)
        case other:
            raise AssertionError(f"parked for {other!r}")


def _need(record: Record) -> str:
    return "worker" if record.apart is Apart.WORKER else "process"


def _holds_slot(store: Store, seen: Snapshot, record: Record) -> bool:
    """Whether an operation holds a slot of its limiter: it runs, or was released to the queue (a score of 0)."""
    since = seen.zset(store.keys.limiter(record.type, "taken")).get(record.key)
    if record.stage is Stage.RUNNING:
        assert since != 0, "it runs, and counts as queued"
        return bool(record.policy.concurrency)
    return record.stage is Stage.QUEUED and since == 0


def _check_tickets(store: Store, seen: Snapshot) -> None:
    """The ticket of a queued operation is on the list of its queue, or the sweeper is about to miss it.

    Each tenant with tickets has a turn in the lane.
    """
    keys = store.keys
    for lane in LANES:
        tickets = seen.lists.get(keys.queue(lane), [])
        parsed = [parse_job_id(job) for job in tickets]
        numbers = [ticket for key, ticket in filter(None, parsed)]
        assert numbers == sorted(set(numbers)), f"{lane}: not in the order of their numbers"
        prefix = f"{keys.ticketed_by_all(lane)}:"
        sets = {name.removeprefix(prefix): members for name, members in seen.zsets.items() if name.startswith(prefix)}
        assert sets.keys() <= seen.zset(keys.turns(lane)).keys(), f"{lane}: tenants without a turn"
        assert sets.keys() <= seen.zset(keys.known_tenants).keys(), f"{lane}: tenants that are not known"
        for key, ticket in ((key, ticket) for members in sets.values() for key, ticket in members.items()):
            record = seen.records[key]
            assert record.ticket == ticket
            assert record.blocker == "", f"queued, and blocked by {record.blocker}"
            vanished = not numbers or ticket < numbers[0]
            assert vanished or f"{key}-{record.ticket}" in tickets, (
                f"{lane}: no ticket {ticket}, nor about to be missed"
            )


def _check_serial_queues(store: Store, seen: Snapshot) -> None:
    """Of the serial operations of a call all but the head wait for the head, and the head does not wait for them."""
    for name, line in seen.zsets.items():
        if name.startswith(f"{store.keys.prefix}:line:"):
            head, *others = [seen.records[key] for key in sorted(line, key=line.__getitem__)]
            assert (head.stage, head.blocker) != (Stage.PARKED, "serial"), f"{name}: stuck"
            waits = {(record.stage, record.blocker) for record in others}
            assert waits <= {(Stage.PARKED, "serial")}, f"{name}: {waits} behind the head"


def _check_limiters(store: Store, seen: Snapshot) -> None:
    """No limit is exceeded, each limiter with waiting operations will be checked, and none waits needlessly."""
    keys = store.keys
    by_gate: dict[str, list[Record]] = defaultdict(list)
    for record in seen.records.values():
        if record.policy.concurrency or record.policy.rate:
            by_gate[type_digest(record.type)].append(record)
    holding = {gate for gate, records in by_gate.items() if seen.zset(keys.limiter(records[0].type, "parked"))}
    assert set(seen.zset(keys.limiters)) == holding
    for gate, records in by_gate.items():
        policy = records[0].policy
        taken = seen.zset(keys.limiter(records[0].type, "taken"))
        if policy.concurrency:
            assert len(taken) <= policy.concurrency, f"{records[0].type}: {len(taken)} at once"
        if policy.rate:
            assert sum(not since for since in taken.values()) <= policy.rate, "more let through than tokens"
        if gate in holding:
            looked_at = seen.zset(keys.limiters)[gate]
            assert looked_at <= seen.now + max(LIMITER_RECHECK, policy.per) * SECOND
            full = len(taken) == policy.concurrency
            assert full or policy.rate or looked_at <= seen.now, f"{records[0].type}: waits at an open gate"


def _check_lacking_types(store: Store, seen: Snapshot) -> None:
    """The types for which operations wait for a worker are exactly the types that are noted as lacking."""
    waiting = {name for name in seen.zsets if name.startswith(f"{store.keys.prefix}:lack:")}
    lacking = {store.keys.unserved(name) for name in seen.zset(store.keys.unserved_types)}
    assert lacking == waiting
    waiting = {name for name in seen.zsets if name.startswith(f"{store.keys.prefix}:apart:")}
    assert {store.keys.apart(*note.split(" ", 1)) for note in seen.zset(store.keys.apart_types)} == waiting


def _check_rq(store: Store, seen: Snapshot) -> None:
    """RQ has exactly the executions of running operations, and every job hash that is left will be removed."""
    rq, keys = store.keys.rq_prefix, store.keys
    ours = {f"{record.key}-{record.ticket}": record for record in seen.records.values() if record.rq}
    running = {f"{job}:{record.key}" for job, record in ours.items() if record.stage is Stage.RUNNING}
    jobs = {execution.split(":")[0] for execution in running}
    assert {member for name, z in seen.zsets.items() if name.startswith(f"{rq}:wip:") for member in z} == running
    indexed = {member for name, s in seen.sets.items() if name.endswith(":executions") for member in s}
    assert indexed == running
    assert {n.removeprefix(f"{rq}:execution:") for n in seen.names if n.startswith(f"{rq}:execution:")} == running
    assert {n.removeprefix(f"{rq}:executions:") for n in seen.names if n.startswith(f"{rq}:executions:")} == jobs
    listed = {job for tickets in seen.lists.values() for job in tickets}
    current = {
        f"{record.key}-{record.ticket}"
        for record in seen.records.values()
        if record.stage in {Stage.QUEUED, Stage.RUNNING}
    }
    hashes = {name.removeprefix(keys.job("")) for name in seen.names if name.startswith(keys.job(""))}
    kept = {job for job in hashes if parse_job_id(job)}
    left = kept - jobs - current - listed - set(seen.zset(keys.litter))
    assert not left, f"jobs that nobody will remove: {left}"
    assert jobs <= kept
