"""The overview of `tracker doctor`: workers, lanes, stages, and what operations wait for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracker.cli.formatting import counted, spell
from tracker.domain.operation import SECOND, Json, Micros
from tracker.domain.policy import Policy
from tracker.store.keys import QUEUES
from tracker.store.scripts import answering
from tracker.store.server_check import Finding, Level
from tracker.store.worker_registry import SILENT_AFTER, WorkerRegistry

if TYPE_CHECKING:
    from tracker.store.store import Store


@dataclass(frozen=True, slots=True)
class LaneOverview:
    """A lane. `queued`: how many operations have a ticket. `listed`: the length of RQ's list, with its stale entries.

    `oldest`: the age in seconds of the operation that waits longest. `tenants`: how many tenants have tickets.
    """

    queued: int
    listed: int
    oldest: float | None = None
    tenants: int = 0


@dataclass(frozen=True, slots=True)
class LimiterOverview:
    """A limit of a type that makes `parked` operations wait. It is checked again in `opens_in` seconds."""

    type: str
    policy: Policy
    parked: int
    taken: int
    opens_in: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of an installation.

    `unserved`: by type, how many operations wait for a worker with the type. `in_serial_queues`: how many operations
    wait for an earlier operation in the serial queue of their call. `suspects`: how many tickets are missing.
    """

    suspended: bool = False
    workers: Mapping[str, Json] = field(default_factory=dict)
    died: Mapping[str, int] = field(default_factory=dict)
    """Workers that ended without deregistering, and the seconds since their last heartbeat."""
    lanes: Mapping[str, LaneOverview] = field(default_factory=dict)
    running: int = 0
    delayed: int = 0
    suspects: int = 0
    in_serial_queues: int = 0
    unserved: Mapping[str, int] = field(default_factory=dict)
    apart: int = 0
    limiters: Sequence[LimiterOverview] = ()


async def look(store: "Store", now: Micros) -> Overview:
    """Read the overview. `now` is the server's time. Scans all keys to find serial queues. Raises Unavailable."""
    redis, keys = store.redis, store.keys
    async with answering():
        suspended = await redis.exists(f"{keys.rq_prefix}:suspended")
        running, delayed, suspects = [int(await redis.zcard(name)) for name in (keys.leases, keys.due, keys.suspects)]
        types = [str(name) for name in await redis.zrange(keys.unserved_types, 0, -1)]
        waiting = {name: int(await redis.zcard(keys.unserved(name))) for name in types}
        notes = [str(note).split(" ", 1) for note in await redis.zrange(keys.apart_types, 0, -1)]
        apart = sum([int(await redis.zcard(keys.apart(need, name))) for need, name in notes])
    workers, known = await WorkerRegistry(store).live(), await WorkerRegistry(store).known()
    return Overview(
        suspended=bool(suspended),
        workers=workers,
        died={name: seconds for name, seconds in known.items() if name not in workers},
        lanes={lane: await _lane(store, lane, now) for lane in QUEUES},
        running=running,
        delayed=delayed,
        suspects=suspects,
        in_serial_queues=await _in_serial_queues(store),
        unserved=waiting,
        apart=apart,
        limiters=await _limiters(store, now),
    )


async def _lane(store: "Store", lane: str, now: Micros) -> LaneOverview:
    keys = store.keys
    async with answering():
        owners = [str(owner) for owner in await store.redis.zrange(keys.turns(lane), 0, -1)]
        listed = int(await store.redis.llen(keys.queue(lane)))
    names = [keys.ticketed_by(owner, lane) for owner in owners] + [keys.ticketed_by_all(lane)]
    async with answering(), store.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcard(name)
            pipe.zrange(name, 0, 0)
        found = await pipe.execute()
    counts, first = [int(count) for count in found[::2]], [str(key) for keys_ in found[1::2] for key in keys_]
    ages = [(now - record.changed) / SECOND for record in await store.read(first)]
    return LaneOverview(sum(counts), listed, max(ages, default=None), sum(map(bool, counts)))


async def _in_serial_queues(store: "Store") -> int:
    count = 0
    async with answering():
        found = store.redis.scan_iter(match=f"{store.keys.prefix}:line:*", count=10_000)
        names = list({str(name) async for name in found})
        async with store.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(name)
            count = sum(max(0, length - 1) for length in await pipe.execute())
    return count


async def _limiters(store: "Store", now: Micros) -> list[LimiterOverview]:
    """Each limit that makes operations wait. The first operation that waits tells the type and its policy."""
    redis, prefix = store.redis, f"{store.keys.prefix}:gate:"
    limiters = []
    async with answering():
        watched: list[Any] = await redis.zrange(store.keys.limiters, 0, -1, withscores=True)
    for name, opens in watched:
        async with answering():
            first = [str(key) for key in await redis.zrange(f"{prefix}{name}:parked", 0, 0)]
            parked, taken = await redis.zcard(f"{prefix}{name}:parked"), await redis.zcard(f"{prefix}{name}:taken")
        left = (int(opens) - now) / SECOND
        limiters += [LimiterOverview(held.type, held.policy, parked, taken, left) for held in await store.read(first)]
    return sorted(limiters, key=lambda limiter: limiter.type)


def tell(seen: Overview) -> Iterator[Finding]:
    """The overview as findings. Operations that nothing will move on are a warning."""
    if seen.suspended:
        advice = "No worker takes an operation until `rq resume`. Operations that run go on."
        yield Finding("queues", Level.WARN, "suspended", advice)
    yield from (_worker(name, about) for name, about in sorted(seen.workers.items()))
    if seen.lanes:
        yield from (_waiting(name, lane) for name, lane in seen.lanes.items())
        yield Finding("stages", Level.OK, _stages(seen))
    yield from (_type(name, count, seen.workers) for name, count in sorted(seen.unserved.items()))
    for name, seconds in seen.died.items():
        yield Finding(
            f"worker {name}", Level.WARN, f"last heard {spell(seconds)} ago", "It was killed, or cannot reach Redis."
        )
    yield from (Finding(f"gate {limiter.type}", Level.OK, _limiter(limiter)) for limiter in seen.limiters)


def _worker(name: str, about: Json) -> Finding:
    room = f"{about.get('concurrency', '?')} coroutines and {about.get('processes', '?')} functions"
    if "apart" in about:
        room += f", and {about['apart']} apart"
    found = (
        f"process {about.get('pid', '?')} on {about.get('host', '?')}: runs {about.get('running', '?')}, "
        f"room for {room}, {counted(len(about.get('types', ())), 'type')}"
    )
    silent = about.get("silent", 0)
    if silent >= SILENT_AFTER:
        advice = "It was killed, or cannot reach Redis."
        return Finding(f"worker {name}", Level.WARN, f"{found}, silent for {silent} s", advice)
    if error := about.get("fork_error"):
        advice = (
            "The system refuses it new processes for handlers. It tries again. Raise the limit, or end other processes."
        )
        return Finding(f"worker {name}", Level.WARN, f"{found}, cannot fork: {error}", advice)
    if error := about.get("start_error"):
        advice = "A start hook (`on_start`) may have raised: the worker's log has the error. The worker tries again."
        return Finding(f"worker {name}", Level.WARN, f"{found}, cannot start: {error}", advice)
    if blocking := about.get("blocking"):
        advice = (
            "Coroutines of these types have blocked the event loop. The worker runs operations of these types in"
            " processes of their own until it restarts. Put what blocks into `asyncio.to_thread`, or make the handler a"
            " plain function."
        )
        return Finding(f"worker {name}", Level.WARN, f"{found}, blocked by {', '.join(blocking)}", advice)
    return Finding(f"worker {name}", Level.OK, found)


def _waiting(name: str, lane: LaneOverview) -> Finding:
    found = f"{lane.queued} queued" + ("" if lane.oldest is None else f", the oldest for {spell(lane.oldest)}")
    if lane.tenants > 1:
        found += f", of {lane.tenants} tenants in turn"
    return Finding(f"lane {name}", Level.OK, found)


def _stages(seen: Overview) -> str:
    limited, unserved = sum(limiter.parked for limiter in seen.limiters), sum(seen.unserved.values())
    parked = limited + unserved + seen.in_serial_queues + seen.apart
    return (
        f"{seen.running} running, {seen.delayed} delayed, {parked} parked "
        f"({seen.in_serial_queues} for their call, {limited} for a limit of their type, "
        f"{unserved} for a worker with their type, {seen.apart} to run apart from others), "
        f"{seen.suspects} with a missing ticket"
    )


def _type(name: str, count: int, workers: Mapping[str, Json]) -> Finding:
    check, found = f"type {name}", f"{counted(count, 'operation')} for a worker that has it"
    if any(name in about.get("types", ()) for about in workers.values()):
        return Finding(check, Level.OK, f"{found}; one is alive")
    advice = "No live worker says that it has the type: check that its module is in TRACKER_TYPES."
    return Finding(check, Level.WARN, found, advice)


def _limiter(limiter: LimiterOverview) -> str:
    policy = limiter.policy
    cap = f"{limiter.taken} of at most {policy.concurrency} run or are about to start, " if policy.concurrency else ""
    rate = f"at most {policy.rate} start per {spell(policy.per)}, " if policy.rate else ""
    return f"{cap}{rate}{limiter.parked} wait, checked again in {spell(limiter.opens_in)}"
