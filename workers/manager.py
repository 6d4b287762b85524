"""The manager: a worker's main process. It puts the parts of the worker together, and stops them in order.

It runs no handler code. Handlers run in hosts, which the fork server starts for it.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from tracker.errors import Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime import hangup, signals
from tracker.runtime.background import beside, end
from tracker.store import server_check
from tracker.store.store import Store
from tracker.store.tenant_registry import TenantRegistry
from tracker.store.worker_registry import WorkerRegistry
from workers.attempt import StopReason
from workers.completer import Completer
from workers.control import Control, ControlActions
from workers.executor import Executor
from workers.fetcher import Fetcher
from workers.fork_server import ForkServer
from workers.handler_rooms import isolated_types, kinds_of
from workers.heartbeat import Heartbeat
from workers.pool import PoolSize
from workers.rq_presence import RqPresence
from workers.spool import Spool

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.domain.type_registry import TypeRegistry

log = structlog.get_logger()

KILL_TIMEOUT = 3.0
"""How long a stopping worker waits for hosts that it killed, in seconds after the grace of their handlers."""
LAST_WRITE_TIMEOUT = 5.0
"""The longest time that a stopping worker tries to write its last outcomes, in seconds. The rest stays in the spool."""
LEAVE_TIMEOUT = 2.0
"""The longest time that a stopping worker tries to remove its entries, in seconds. Else they expire by themselves."""
RESTART = "a worker reads its settings and its types only when it starts; restart it"
"""The advice in the log at SIGHUP."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A worker's name, and its entry in RQ's registry of workers (see `RqPresence`)."""

    name: str
    rq_key: str
    rq_channel: str
    """Where RQ publishes its commands for the worker."""
    rq_worker_sets: list[str]
    rq_fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StopConditions:
    """When a worker stops by itself. Without a condition it works until it is told to stop."""

    burst: bool = False
    """As soon as nothing is queued and nothing runs."""
    max_operations: int | None = None
    """After so many operations."""
    max_idle: float | None = None
    """After so many seconds without an operation."""


class Manager:
    """One worker, from its start to its end. `fork_server` was forked before the event loop started."""

    def __init__(
        self,
        store: Store,
        registry: "TypeRegistry",
        fork_server: ForkServer,
        settings: "Settings",
        identity: WorkerIdentity,
        stop_when: StopConditions,
    ) -> None:
        name = identity.name
        self._store, self._fork_server, self._settings = store, fork_server, settings
        self._identity, self._stop_when, self._size = identity, stop_when, pool_size(settings)
        self._completer = Completer(store, Spool(settings.spool_dir), worker=name)
        self._executor = Executor(
            fork_server,
            kinds_of(registry),
            self._size,
            worker=name,
            on_completion=self._completer.add,
            apart_types=isolated_types(registry),
            block_limit=settings.block_limit,
        )
        self._fetcher = Fetcher(
            store,
            self._executor,
            worker=name,
            on_nothing_claimed=self._stop_if_done,
            max_operations=stop_when.max_operations,
            weights=settings.weights_of_tenants,
        )
        self._heartbeat = Heartbeat(store, self._executor, self._completer, self._announce)
        actions = ControlActions(self._fetcher.wake.set, self._cancel, self.stop, self._catch_up)
        self._control = Control(store, actions, worker=name, rq_channel=identity.rq_channel)
        self._rq_presence = RqPresence(
            store.redis, key=identity.rq_key, fields=identity.rq_fields, worker_sets=identity.rq_worker_sets
        )
        self._worker_registry, self._tenant_registry = WorkerRegistry(store), TenantRegistry(store)
        self._stop_requests = 0
        self._stopping, self._hand_back_now = asyncio.Event(), asyncio.Event()
        self._last_busy = 0.0

    @property
    def claimed(self) -> int:
        """How many attempts the worker has begun."""
        return self._fetcher.claimed

    def stop(self) -> None:
        """Drain: claim no more, and let running attempts end. A second call hands the running attempts back at once."""
        self._rq_presence.note_stop_request()
        self._begin_stop()

    def _begin_stop(self) -> None:
        self._stop_requests += 1
        self._stopping.set()
        self._fetcher.stop()
        if self._stop_requests > 1:
            self._hand_back_now.set()

    async def run(self) -> bool:
        """Work until stopped. Returns whether each claimed operation has ended or was handed back, and Redis knows it.

        A worker whose fork server dies hands everything back, stops, and returns False.
        """
        loop = asyncio.get_running_loop()
        signals.on_stop(self.stop)
        hangup.on_hangup(partial(log.info, "reload_ignored", advice=RESTART), stop=self.stop)
        self._last_busy = loop.time()
        await self._fork_server.open()
        try:
            async with beside(
                self._completer.run(),
                self._heartbeat.run(),
                self._heartbeat.store_progress(),
                self._executor.watch(),
                self._control.run(),
                self._watch_fork_server(),
                Sweeper(self._store).run(),
                server_check.report(self._store.redis),
            ):
                return await self._work()
        finally:
            await self._executor.pool.close()
            await self._fork_server.close()

    async def _work(self) -> bool:
        await self._open_pool()
        fetching = asyncio.create_task(self._fetcher.run())
        try:
            await self._stopping.wait()
            clean = await self._drain(fetching)
        finally:
            await end(fetching)
        await _within(self._leave(), LEAVE_TIMEOUT)
        log.info("worker_stopped", worker=self._identity.name, operations=self.claimed, clean=clean)
        return clean

    async def _open_pool(self) -> None:
        """Start the hosts, unless the worker stops before. How long that takes depends on the types' start hooks."""
        opening = asyncio.create_task(self._executor.pool.open())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await end(opening, stopping)
        size = self._size
        log.info("worker_ready", worker=self._identity.name, concurrency=size.concurrency, processes=size.processes)

    async def _drain(self, fetching: "asyncio.Task[None]") -> bool:
        """Let running attempts end within the drain time, hand the others back, and write all outcomes.

        Returns whether nothing is left.
        """
        seconds = 0.0 if self._hand_back_now.is_set() else self._settings.drain_seconds
        log.info("worker_draining", drain_seconds=seconds, running=len(self._executor.running))
        finished = asyncio.create_task(self._wait_until_finished(fetching))
        hand_back = asyncio.create_task(self._hand_back_now.wait())
        await asyncio.wait({finished, hand_back}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done() and self._executor.running:
            log.info("worker_hands_back", running=len(self._executor.running))
        self._executor.hand_back()
        graces = [attempt.record.policy.grace for attempt in self._executor.running.values()]
        await asyncio.wait({finished}, timeout=max(graces, default=0.0) + KILL_TIMEOUT)
        await end(finished, hand_back)
        written = await _within(self._completer.settled.wait(), LAST_WRITE_TIMEOUT)
        ended = fetching.done() and not self._fetcher.unanswered and not self._executor.running
        return written and ended and not self._fork_server.lost.is_set()

    async def _wait_until_finished(self, fetching: "asyncio.Task[None]") -> None:
        await asyncio.wait({fetching})
        await self._executor.idle.wait()

    async def _watch_fork_server(self) -> None:
        """Stop the worker when its fork server dies, because no handler can run without it."""
        await self._fork_server.lost.wait()
        log.error("nursery_died", pid=self._fork_server.pid)
        self._executor.abandon()
        self.stop()

    def _cancel(self, key: str, attempt: int) -> None:
        self._executor.stop(key, attempt, StopReason.CANCEL)

    def _catch_up(self) -> None:
        """Look for tickets and cancels that were published while the worker did not listen."""
        self._fetcher.wake.set()
        self._heartbeat.beat_now.set()

    def _stop_if_done(self) -> None:
        now = asyncio.get_running_loop().time()
        stop_when = self._stop_when
        if self._executor.running or not self._completer.settled.is_set():
            self._last_busy = now
        elif (
            stop_when.burst
            or (stop_when.max_operations is not None and self.claimed >= stop_when.max_operations)
            or (stop_when.max_idle is not None and now - self._last_busy >= stop_when.max_idle)
        ):
            self._begin_stop()

    async def _announce(self) -> None:
        """Say that the worker lives: to RQ, and in our own registry of workers. Read how many tenants there are."""
        self._executor.tenants.known_tenants = await self._tenant_registry.count()
        await self._beat_rq()
        await self._worker_registry.announce(
            self._identity.name,
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "types": sorted(self._executor.kinds),
                "concurrency": self._size.concurrency,
                "processes": self._size.processes,
                "apart": self._size.apart,
                "running": len(self._executor.running),
                "blocking": sorted(self._executor.loop_guard.blocking_types),
                "start_error": self._executor.pool.start_error,
                "fork_error": self._executor.pool.fork_error,
            },
        )

    async def _leave(self) -> None:
        try:
            await self._beat_rq()
            await self._rq_presence.leave()
            await self._worker_registry.gone(self._identity.name)
        except Unavailable:
            log.debug("leave_not_told", reason="its entries run out by themselves")
        except Exception:
            log.exception("leave_failed")

    async def _beat_rq(self) -> None:
        counts = self._completer.take_counts()
        try:
            await self._rq_presence.beat("busy" if self._executor.running else "idle", counts)
        except Unavailable:
            self._completer.return_counts(counts)
            raise


def pool_size(settings: "Settings") -> PoolSize:
    """How many attempts a worker with these settings runs at once."""
    return PoolSize(
        concurrency=settings.worker_concurrency,
        processes=settings.worker_processes,
        recycle_after=settings.recycle_after,
        memory_limit=settings.memory_limit * 1024 * 1024,
        apart=settings.worker_apart,
        tenant_most=settings.tenant_most,
    )


async def _within(work: Awaitable[Any], seconds: float) -> bool:
    """Wait for `work`, for `seconds` at most. Returns whether it ended in time."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
