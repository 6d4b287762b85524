"""Repairs: whoever runs this notices what got lost and puts it right.

Every API process and every worker supervisor runs one; a lock in Redis lets one of them work at a time.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import LockError, RedisError

from tracker.domain import lifecycle
from tracker.errors import Conflict, IllegalTransition, NotFound, Unavailable
from tracker.log import log_transition
from tracker.runtime import failpoints
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.domain.lifecycle import Change
    from tracker.domain.record import Record
    from tracker.store.store import Store

log = structlog.get_logger()

EVERY = 1.0
"""Seconds between two sweeps."""
LOCK_FOR = 5.0
"""Seconds after which another process takes over from one that died sweeping."""
MERCY = 6.0
"""Seconds after an outage in which no lease counts as lost: nobody could beat, and now they do."""
LIMIT = 500
"""Most operations per duty and sweep."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did, in counts."""

    lost: int
    due: int
    vanished: int
    missed: int
    expired: int
    forgotten: int
    litter: int


class Sweeper:
    """Its duties: lost leases, vanished tickets, missed starts, waits that are over, ended retention, RQ's litter."""

    def __init__(self, store: "Store", *, every: float = EVERY) -> None:
        self._store, self._every = store, every
        self._lenient_until = 0.0
        self._lock = store.redis.lock(store.keys.sweeper, timeout=LOCK_FOR, blocking=False, thread_local=False)

    async def run(self) -> None:
        """Sweep until cancelled, whenever this process has the lock; survives every outage of Redis."""
        away = False
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    if await self._has_lock():
                        while LIMIT in astuple(await self.sweep()):
                            await self._has_lock()
                    if away:
                        log.info("store_back", redis=self._store.address)
                    away = False
                except Unavailable as error:
                    if not away:
                        log.warning("store_away", redis=self._store.address, reason=str(error.__cause__))
                    away = True
                    self._lenient_until = loop.time() + MERCY
                except Exception:
                    log.exception("sweep_failed")
                await asyncio.sleep(self._every)
        finally:
            await self._let_go()

    async def sweep(self) -> Swept:
        """Do every duty once, bounded in size. Raises Unavailable while Redis is away."""
        overdue = await self._store.overdue(LIMIT)
        lenient = asyncio.get_running_loop().time() < self._lenient_until
        lost = await self._apply([] if lenient else overdue.lost, lifecycle.lose)
        vanished = await self._apply(overdue.vanished, lifecycle.vanish)
        missed = await self._apply(overdue.missed, lifecycle.miss)
        due = await self._apply(overdue.due, lifecycle.due)
        expired, forgotten = await self._store.expire(LIMIT)
        if overdue.litter:
            await self._store.remove_litter(overdue.litter)
        return Swept(lost, due, vanished, missed, expired, forgotten, len(overdue.litter))

    async def _apply(self, keys: Iterable[str], decide: "Callable[[Record], Change]") -> int:
        done = 0
        for record in await self._store.read(keys):
            try:
                change = decide(record)
                after = await self._store.apply(change)
            except (Conflict, NotFound):
                continue  # it moved on by itself
            except IllegalTransition:
                log.debug("sweep_skipped", operation_id=record.id, stage=record.stage)
                continue
            failpoints.reach(failpoints.IN_SWEEP)
            done += 1
            log_transition(change.transition, after, worker=record.worker or None)
        return done

    async def _has_lock(self) -> bool:
        async with answering():
            if await self._lock.owned():
                try:
                    return bool(await self._lock.reacquire())
                except LockError:
                    return False
            return bool(await self._lock.acquire())

    async def _let_go(self) -> None:
        try:
            if await self._lock.owned():
                await self._lock.release()
        except (RedisError, OSError):
            log.debug("sweeper_lock_left", reason="it runs out by itself")
