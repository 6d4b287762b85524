"""When it is worth asking for an operation again, from how others of its type went and from what is ahead of it."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tracker.domain.operation import SECOND, Micros
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import canonical
from tracker.errors import Unavailable
from tracker.events.feed import readable
from tracker.store.keys import QUEUES
from tracker.store.rq_tickets import parse_job_id
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.store.store import Store

log = structlog.get_logger()

LEAST, MOST = 1, 60
"""Bounds of the answer, in seconds."""
EVERY = 1.0
"""Seconds between two looks at the queues."""
LEARNT_AT_ONCE = 20
"""Ended operations whose run times are learnt between two looks."""
MOST_TYPES = 1000
"""Types whose run times are kept."""
NEWEST = 0.2
"""What the newest figure counts in a mean of run times or rates; the older ones count less and less."""
AGAIN = 0.1
"""The part of its run time after which one that runs longer than is usual is worth asking for again."""


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """A queue when it was last looked at: how many tickets, and the number of the first."""

    depth: int = 0
    head: int = 0


class RetryAfterEstimator:
    """What this process has learnt. Nothing here waits for Redis but `run`."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._usual: dict[str, float] = {}
        self._lanes: dict[str, QueueSnapshot] = {}
        self._rate = 0.0
        self._ended = self._learnt = 0
        self._ahead = time.time() - time.monotonic()

    def retry_after(self, record: Record) -> int:
        """Whole seconds, from 1 to 60, until an operation that has not ended is worth asking for again.

        What runs is expected to take what its type usually does; what waits, to begin when what is ahead of it has
        ended. Where nothing is known, 1.
        """
        usual = self._usual.get(canonical(record.type), 0.0)
        if record.stage is Stage.RUNNING:
            ran = self._now() - record.began / SECOND
            seconds = max(usual - ran, ran * AGAIN)
        else:
            ahead = self._in_queue(record)
            if record.not_before:
                ahead = max(ahead, record.not_before / SECOND - self._now())
            seconds = ahead + usual
        return max(LEAST, math.ceil(min(MOST, seconds)))  # where nothing ends for an hour, it is infinite

    def _now(self) -> float:
        """By Redis's clock."""
        return time.monotonic() + self._ahead

    def hear(self, lines: Sequence[str]) -> None:
        """Learn from what was told of operations. Only a line of one that ends says when its attempt began, `"b"`."""
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
        """Look at the queues every second until cancelled; survives every outage of Redis."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look(time.monotonic() - looked)
            except Unavailable:
                log.debug("pace_unknown")
            except Exception:
                log.exception("look_failed")
            looked = time.monotonic()

    async def look(self, elapsed: float) -> None:
        """See what waits, and take into account what ended within that many seconds. Raises Unavailable."""
        ended, self._ended, self._learnt = self._ended, 0, 0
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for lane in QUEUES:
                pipe.llen(self._store.keys.queue(lane))
                pipe.lindex(self._store.keys.queue(lane), 0)
            (seconds, micros), *found = await pipe.execute()
        self._ahead = seconds + micros / SECOND - time.monotonic()
        busy = any(lane.depth for lane in self._lanes.values())
        self._lanes = {lane: _lane(*found[2 * at : 2 * at + 2]) for at, lane in enumerate(QUEUES)}
        if busy or ended / elapsed > self._rate:  # with nothing to do, nothing ends: that says nothing of the workers
            self._rate = _mean(self._rate, ended / elapsed)

    def _in_queue(self, record: Record) -> float:
        """Seconds until those ahead of a queued operation have ended, by the rate at which they do."""
        lane = self._lanes.get(record.policy.priority)
        if record.stage is not Stage.QUEUED or lane is None or not lane.depth or not self._rate:
            return 0.0
        return max(0, min(lane.depth, record.ticket - lane.head)) / self._rate

    def _learn(self, name: str, ran: Micros) -> None:
        if name not in self._usual and len(self._usual) >= MOST_TYPES:
            del self._usual[next(iter(self._usual))]
        self._usual[name] = _mean(self._usual.get(name), ran / SECOND)


def _mean(before: float | None, new: float) -> float:
    return before + NEWEST * (new - before) if before else new


def _lane(depth: int, first: str | None) -> QueueSnapshot:
    """A head that is no ticket of ours says nothing of what is behind it."""
    ticket = parse_job_id(first) if first else None
    return QueueSnapshot(depth, ticket[1]) if ticket else QueueSnapshot()
