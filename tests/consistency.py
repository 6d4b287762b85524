"""Whether everything is where it belongs: the records, the sets that their stages keep, and RQ's part of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.store.keys import type_digest
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_constants import LIMITER_RECHECK
from tracker.store.store import Store

FINAL = (Stage.COMPLETED, Stage.FAILED, Stage.TOMBSTONE)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every record, and every key that holds members, as it is now; `now` is the scripts' time."""

    records: Mapping[str, Record]
    zsets: Mapping[str, Mapping[str, float]]
    lists: Mapping[str, list[str]]
    sets: Mapping[str, set[str]]
    names: frozenset[str]
    now: int

    def zset(self, name: str) -> Mapping[str, float]:
        """A sorted set's members; one that is not there has none."""
        return self.zsets.get(name, {})


async def assert_consistent(store: Store) -> None:
    """Check that every operation is in exactly the places that its stage keeps, and nothing else is in any.

    Nobody may write meanwhile.
    """
    seen = await take_snapshot(store)
    _check_places(store, seen)
    _check_tickets(store, seen)
    _check_lines(store, seen)
    _check_gates(store, seen)
    _check_lacks(store, seen)
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


def _check_places(store: Store, seen: Snapshot) -> None:
    """Each operation is in its sets, and in no other; a suspect is in place of its ticket."""
    keys = store.keys
    others = {keys.limiters, keys.unserved_types, keys.litter, keys.workers}
    found: dict[str, set[str]] = defaultdict(set)
    for name, members in seen.zsets.items():
        if name.startswith(f"{keys.prefix}:") and name not in others:
            for key in members:
                found[key].add(name)
    assert set(found) <= set(seen.records), f"no records: {set(found) - set(seen.records)}"
    for key, record in seen.records.items():
        places = set(_places(store, seen, record))
        assert found[key] == places, f"{record.stage} {record.type} {key}: {sorted(found[key] ^ places)}"


def _places(store: Store, seen: Snapshot, record: Record) -> Iterator[str]:
    """The sorted sets of ours that an operation must be in."""
    keys, stage = store.keys, record.stage
    match stage:
        case Stage.QUEUED:
            suspect = record.key in seen.zset(keys.suspects)
            yield keys.suspects if suspect else keys.ticketed(record.policy.priority)
        case Stage.PARKED:
            yield from _blockers_set(store, record)
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
    if _holds_place(store, seen, record):
        yield keys.limiter(record.type, "taken")
    if record.visible:
        yield keys.call(record.tenant, record.call_id)
        yield keys.status(record.tenant, record.call_id, record.status)


def _blockers_set(store: Store, record: Record) -> Iterator[str]:
    match record.blocker:
        case "serial":
            assert record.policy.serial
        case "cap" | "rate":
            yield store.keys.limiter(record.type, "parked")
        case "type":
            yield store.keys.unserved(record.type)
        case other:
            raise AssertionError(f"parked for {other!r}")


def _holds_place(store: Store, seen: Snapshot, record: Record) -> bool:
    """What runs holds a place of a cap; what is queued may have been let through, which a score of 0 says."""
    since = seen.zset(store.keys.limiter(record.type, "taken")).get(record.key)
    if record.stage is Stage.RUNNING:
        assert since != 0, "it runs, and counts as queued"
        return bool(record.policy.concurrency)
    return record.stage is Stage.QUEUED and since == 0


def _check_tickets(store: Store, seen: Snapshot) -> None:
    """A queued operation's ticket is on its lane's list, or the sweeper is about to miss it."""
    keys = store.keys
    for lane in ("high", "default", "low"):
        tickets = seen.lists.get(keys.queue(lane), [])
        parsed = [parse_job_id(job) for job in tickets]
        numbers = [ticket for key, ticket in filter(None, parsed)]
        assert numbers == sorted(set(numbers)), f"{lane}: not in the order of their numbers"
        for key, ticket in seen.zset(keys.ticketed(lane)).items():
            record = seen.records[key]
            assert record.ticket == ticket
            assert record.blocker == "", f"queued, and blocked by {record.blocker}"
            vanished = not numbers or ticket < numbers[0]
            assert vanished or f"{key}-{record.ticket}" in tickets, (
                f"{lane}: no ticket {ticket}, nor about to be missed"
            )


def _check_lines(store: Store, seen: Snapshot) -> None:
    """A call's serial operations: only the head has left the line's wait, and the head waits for nobody."""
    for name, line in seen.zsets.items():
        if name.startswith(f"{store.keys.prefix}:line:"):
            head, *others = [seen.records[key] for key in sorted(line, key=line.__getitem__)]
            assert (head.stage, head.blocker) != (Stage.PARKED, "serial"), f"{name}: stuck"
            waits = {(record.stage, record.blocker) for record in others}
            assert waits <= {(Stage.PARKED, "serial")}, f"{name}: {waits} behind the head"


def _check_gates(store: Store, seen: Snapshot) -> None:
    """No cap is exceeded, every gate that holds somebody back will be looked at, and none waits at an open one."""
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


def _check_lacks(store: Store, seen: Snapshot) -> None:
    """Every type that somebody waits for is known to be lacking, and no other."""
    waiting = {name for name in seen.zsets if name.startswith(f"{store.keys.prefix}:lack:")}
    lacking = {store.keys.unserved(name) for name in seen.zset(store.keys.unserved_types)}
    assert lacking == waiting


def _check_rq(store: Store, seen: Snapshot) -> None:
    """RQ knows exactly the executions of ours that run; no job's hash is left that nobody will remove."""
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
