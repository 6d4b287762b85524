"""Estimates for `Retry-After`: when an operation that has not ended is worth asking for again.

An estimate uses the run times of earlier operations of the type, and the length of the queue before the operation.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tracker.domain.operation import SECOND, Micros
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import canonical
from tracker.errors import Unavailable
from tracker.events.feed import readable
from tracker.store.keys import QUEUES, owner_digest
from tracker.store.rq_tickets import parse_job_id
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.store.store import Store

log = structlog.get_logger()

LEAST, MOST = 1, 60
"""The shortest and the longest estimate, in seconds."""
READ_INTERVAL = 1.0
"""Seconds between two readings of the queues."""
LEARNT_AT_ONCE = 20
"""How many run times are learnt between two readings of the queues at most."""
MOST_TENANTS = 200
"""Tenants of a lane whose tickets are counted, at most."""
MOST_TYPES = 1000
"""How many types have their run time kept at most."""
NEWEST_WEIGHT = 0.2
"""The weight of the newest value in a moving average of run times or rates."""
OVERDUE_FRACTION = 0.1
"""For an operation that runs longer than usual, the estimate is this part of its run time so far."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The tickets of a queue, or of a tenant in it, when they were last read: how many, and the number of the first."""

    depth: int = 0
    head: int = 0


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """A lane when it was last read. `tenants` has the tickets of each tenant by the tenant's digest."""

    queue: QueueSnapshot
    tenants: Mapping[str, QueueSnapshot]

    def ahead(self, record: Record, weights: Mapping[str, int]) -> int:
        """About how many operations start before a queued one. The tenants take turns, as their weights say."""
        if len(self.tenants) <= 1:
            return max(0, min(self.queue.depth, record.ticket - self.queue.head))
        owner = owner_digest(record.tenant)
        own = self.tenants.get(owner, QueueSnapshot(1, record.ticket - 1))
        before = max(0, min(own.depth, record.ticket - own.head))
        turns = sum(weights.get(each, 1) for each in self.tenants) / weights.get(owner, 1)
        return min(self.queue.depth, math.ceil(before * turns))


class RetryAfterEstimator:
    """Learns run times from events and reads the queues every second. Only `run` waits for Redis.

    `weights` has the weights of tenants that are not 1.
    """

    def __init__(self, store: "Store", weights: Mapping[str, int] | None = None) -> None:
        self._store = store
        self._weights = {owner_digest(tenant): weight for tenant, weight in (weights or {}).items()}
        self._usual: dict[str, float] = {}
        self._lanes: dict[str, LaneSnapshot] = {}
        self._rate = 0.0
        self._ended = self._learnt = 0
        self._clock_offset = time.time() - time.monotonic()
        """The time of Redis minus this process's monotonic clock, in seconds."""

    def retry_after(self, record: Record) -> int:
        """The estimate for an operation that has not ended, in whole seconds from 1 to 60.

        A running operation is expected to run as long as others of its type. A waiting one is expected to start when
        the operations before it have ended. If nothing is known, the estimate is 1.
        """
        usual = self._usual.get(canonical(record.type), 0.0)
        if record.stage is Stage.RUNNING:
            ran = self._now() - record.began / SECOND
            seconds = max(usual - ran, ran * OVERDUE_FRACTION)
        else:
            ahead = self._in_queue(record)
            if record.not_before:
                ahead = max(ahead, record.not_before / SECOND - self._now())
            seconds = ahead + usual
        return max(
            LEAST, math.ceil(min(MOST, seconds))
        )  # `seconds` may be infinite: the rate is tiny when nothing ends for an hour

    def _now(self) -> float:
        """The time by Redis's clock, in seconds."""
        return time.monotonic() + self._clock_offset

    def learn(self, lines: Sequence[str]) -> None:
        """Learn run times from the lines of a message. Only lines of ends have `"b"`, the start of the attempt."""
        for line in lines:
            if '"b":' not in line.rpartition("\t")[2]:
                continue
            self._ended += 1
            if self._learnt < LEARNT_AT_ONCE:
                self._learnt += 1
                event = readable(line)
                if event is not None and event.ran is not None and not event.canceled:
                    self._learn(canonical(event.type), event.ran)

    async def run(self) -> None:
        """Read the queues every second until cancelled. Outages of Redis do not end it."""
        last_read = time.monotonic()
        while True:
            await asyncio.sleep(READ_INTERVAL)
            try:
                await self.look(time.monotonic() - last_read)
            except Unavailable:
                log.debug("pace_unknown")
            except Exception:
                log.exception("look_failed")
            last_read = time.monotonic()

    async def look(self, elapsed: float) -> None:
        """Read the queues, and update the rate of ends within the `elapsed` seconds. Raises Unavailable."""
        ended, self._ended, self._learnt = self._ended, 0, 0
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for lane in QUEUES:
                pipe.llen(self._store.keys.queue(lane))
                pipe.lindex(self._store.keys.queue(lane), 0)
                pipe.zrange(self._store.keys.turns(lane), 0, MOST_TENANTS - 1)
            (seconds, micros), *found = await pipe.execute()
        self._clock_offset = seconds + micros / SECOND - time.monotonic()
        busy = any(lane.queue.depth for lane in self._lanes.values())
        self._lanes = {lane: await self._lane(lane, *found[3 * at : 3 * at + 3]) for at, lane in enumerate(QUEUES)}
        if busy or ended / elapsed > self._rate:  # idle workers say nothing about their rate
            self._rate = _mean(self._rate, ended / elapsed)

    async def _lane(self, lane: str, listed: int, first: str | None, owners: Sequence[str]) -> LaneSnapshot:
        """Read the tickets of each tenant. A queue may have more entries than tickets, because some may be stale."""
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            for owner in owners:
                ticketed = self._store.keys.ticketed_by(owner, lane)
                pipe.zcard(ticketed)
                pipe.zrange(ticketed, 0, 0, withscores=True)
            found = await pipe.execute()
        tenants = {
            owner: QueueSnapshot(depth, int(head[0][1]))
            for owner, depth, head in zip(owners, found[::2], found[1::2], strict=True)
            if depth
        }
        depth = min(listed, sum(each.depth for each in tenants.values())) if tenants else listed
        return LaneSnapshot(_queue(depth, first), tenants)

    def _in_queue(self, record: Record) -> float:
        """Seconds until the operations before a queued one have ended, by the present rate of ends."""
        lane = self._lanes.get(record.policy.priority)
        if record.stage is not Stage.QUEUED or lane is None or not lane.queue.depth or not self._rate:
            return 0.0
        return lane.ahead(record, self._weights) / self._rate

    def _learn(self, name: str, ran: Micros) -> None:
        if name not in self._usual and len(self._usual) >= MOST_TYPES:
            del self._usual[next(iter(self._usual))]
        self._usual[name] = _mean(self._usual.get(name), ran / SECOND)


def _mean(before: float | None, new: float) -> float:
    return before + NEWEST_WEIGHT * (new - before) if before else new


def _queue(depth: int, first: str | None) -> QueueSnapshot:
    """The snapshot of a queue. A first ticket that is not ours says nothing about the tickets behind it."""
    ticket = parse_job_id(first) if first else None
    return QueueSnapshot(depth, ticket[1]) if ticket else QueueSnapshot()
