"""The sweeper: finds operations whose time has come or whose worker is lost, and applies their next transition.

Every API process and every worker runs a sweeper. A lock in Redis lets one of them sweep at a time.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import structlog
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from tracker.domain import blame, lifecycle
from tracker.domain.operation import SECOND
from tracker.errors import Conflict, IllegalTransition, NotFound, Unavailable
from tracker.log import log_transition
from tracker.maintenance.clock_watch import ClockWatch
from tracker.runtime import failpoints
from tracker.store.address_check import explain
from tracker.store.batching import MOST_TOGETHER
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.domain.change import Change
    from tracker.domain.record import Record
    from tracker.store.store import Store

log = structlog.get_logger()

SWEEP_INTERVAL = 1.0
"""Time between two sweeps, in seconds."""
LOCK_TIMEOUT = 5.0
"""How long the lock of a process that dies keeps others from sweeping, in seconds."""
LEASE_GRACE = 6.0
"""How long no lease counts as lost after an outage of Redis, in seconds. Workers renew their leases in that time."""
MAX_BATCH = 500
"""How many operations one sweep handles for each of its duties, at most."""
ASIDE_FOR = 60.0
"""How long an operation whose record cannot be read is left aside, in seconds. Meanwhile the sweeper has others."""
MAX_ASIDE = 10_000
"""How many such operations are left aside at most."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many operations one sweep has handled, for each of its duties."""

    lost: int
    """Operations whose lease had run out: to run again later, or failed."""
    due: int
    """Operations whose delay was over: queued, or added to the serial queue of their call."""
    vanished: int
    """Operations whose ticket had left its queue unclaimed: they get another ticket later, or fail."""
    missed: int
    """Operations that had not started in time: failed."""
    expired: int
    """Operations whose retention was over: turned into tombstones."""
    forgotten: int
    """Tombstones whose time was over: removed."""
    litter: int
    """Tickets of lost workers: the keys that RQ had of them are removed."""
    converted: int = 0
    """Tickets of earlier versions that were converted, in the lane that had most of them."""


class _SweeperLock(Lock):
    """redis-py's lock, which can be taken at the server's `maxmemory`, too. Only the sweeper can free memory then."""

    def __init__(self, store: "Store") -> None:
        super().__init__(store.redis, store.keys.sweeper, timeout=LOCK_TIMEOUT, blocking=False, thread_local=False)
        self._take = store.take_lock

    async def do_acquire(self, token: str | bytes) -> bool:
        """Take the lock, unless a process has it."""
        return bool(await self._take(token=token, lifetime=round(LOCK_TIMEOUT * 1000)))


class Sweeper:
    """Sweeps once in `every` seconds, if its process has the lock then."""

    def __init__(self, store: "Store", *, every: float = SWEEP_INTERVAL) -> None:
        self._store, self._every = store, every
        self._lenient_until = 0.0
        self.clock = ClockWatch(store)
        self._aside: dict[str, float] = {}
        """Keys of operations that are left aside, each with the time of the loop at which it is looked at again."""
        self._lock = _SweeperLock(store)

    async def run(self) -> None:
        """Sweep until cancelled, through every outage of Redis."""
        away = False
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self.clock.look()
                    await self._sweep_if_locked()
                    if away:
                        log.info("store_back", redis=self._store.address)
                    away = False
                except Unavailable as error:
                    if not away:
                        log.warning("store_away", redis=self._store.address, reason=explain(error.__cause__ or error))
                    away = True
                    self._lenient_until = loop.time() + LEASE_GRACE
                except Exception:
                    log.exception("sweep_failed")
                await asyncio.sleep(self._every)
        finally:
            await self._release_lock()

    async def _sweep_if_locked(self) -> None:
        """Sweep, and sweep again while one of the duties reaches the limit of a batch."""
        if await self._has_lock():
            while max(astuple(await self.sweep())) >= MAX_BATCH and await self._has_lock():
                pass

    async def sweep(self) -> Swept:
        """Do each duty once, for one batch. Raises Unavailable while Redis is away.

        Records are expired first: at `maxmemory` the other duties are refused until that has freed memory.
        """
        now = asyncio.get_running_loop().time()
        expired, forgotten = await self._store.expire(MAX_BATCH)
        self._aside = {key: until for key, until in self._aside.items() if until > now}
        asked = self.clock.monotonic()
        overdue = await self._store.overdue(MAX_BATCH + len(self._aside))
        jumped = await self.clock.compare(int(overdue.server_time) / SECOND, asked)
        lost = await self._apply([] if jumped or now < self._lenient_until else overdue.lost, blame.lose)
        vanished = await self._apply([] if jumped else overdue.vanished, lifecycle.vanish)
        missed = await self._apply([] if jumped else overdue.missed, lifecycle.miss)
        due = await self._apply([] if jumped else overdue.due, lifecycle.due)
        if overdue.litter:
            await self._store.remove_litter(overdue.litter)
        return Swept(lost, due, vanished, missed, expired, forgotten, len(overdue.litter), overdue.converted)

    async def _apply(self, keys: Iterable[str], decide: "Callable[[Record], Change]") -> int:
        """Apply a transition to each operation, MAX_BATCH at most. Returns how many were changed."""
        changes = []
        for record in await self._read([key for key in keys if key not in self._aside][:MAX_BATCH]):
            try:
                changes.append(decide(record))
            except IllegalTransition:
                log.debug("sweep_skipped", operation_id=record.id, stage=record.stage)
        parts = [changes[start : start + MOST_TOGETHER] for start in range(0, len(changes), MOST_TOGETHER)]
        return sum([await self._write(part) for part in parts])

    async def _write(self, changes: "Sequence[Change]") -> int:
        """Write changes by one run of a script. Returns how many were written.

        If the script fails, each change is written alone. The operation at fault is left aside for a while.
        """
        try:
            outcomes = await self._store.apply_each(changes)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged as the outcome of the change at fault
            if len(changes) > 1:
                return sum([await self._write([change]) for change in changes])
            outcomes = [error]
        return sum(self._on_outcome(change, outcome) for change, outcome in zip(changes, outcomes, strict=True))

    def _on_outcome(self, change: "Change", outcome: "Record | Exception") -> bool:
        """Log a change that was written. Returns whether it was."""
        if isinstance(outcome, (Conflict, NotFound)):
            return False  # another process has changed the operation meanwhile
        if isinstance(outcome, Exception):
            log.error("sweep_failed", operation_id=change.seen.id, transition=change.transition, exc_info=outcome)
            self._leave_aside([change.seen.key])
            return False
        failpoints.reach(failpoints.IN_SWEEP)
        log_transition(change.transition, outcome, worker=change.seen.worker or None)
        return True

    async def _read(self, keys: Sequence[str]) -> "list[Record]":
        """Read records. An operation that has none, or one that cannot be read, is left aside for a while."""
        records = await self._store.read(keys)
        if len(records) < len(keys):
            self._leave_aside(set(keys) - {record.key for record in records})
        return records

    def _leave_aside(self, keys: Iterable[str]) -> None:
        until = asyncio.get_running_loop().time() + ASIDE_FOR
        self._aside |= dict.fromkeys(list(keys)[: MAX_ASIDE - len(self._aside)], until)

    async def _has_lock(self) -> bool:
        """Take the lock, or renew it. Returns whether this process has it."""
        async with answering():
            if await self._lock.owned():
                try:
                    return bool(await self._lock.reacquire())
                except LockError:
                    return False
            return bool(await self._lock.acquire())

    async def _release_lock(self) -> None:
        try:
            if await self._lock.owned():
                await self._lock.release()
        except (RedisError, OSError):
            log.debug("sweeper_lock_left", reason="it runs out by itself")
