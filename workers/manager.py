"""The process that manages a worker's operations: it claims, beats, commits and sweeps, and runs no handler code."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from tracker.errors import Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside, end
from tracker.store import server_check
from tracker.store.store import Store
from tracker.store.worker_registry import WorkerRegistry
from workers.attempt import StopReason
from workers.completer import Completer
from workers.control import Control, Orders
from workers.executor import Executor, kinds_of
from workers.fetcher import Fetcher
from workers.fork_server import ForkServer
from workers.heartbeat import Heartbeat
from workers.pool import PoolSize
from workers.rq_presence import RqPresence
from workers.spool import Spool

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.domain.type_registry import TypeRegistry

log = structlog.get_logger()

SLACK = 3.0
"""Seconds beyond a handler's grace until its killed host must have been noticed."""
WRITE_WITHIN = 5.0
"""Seconds for the last outcomes when the worker stops; what is not written then waits in the spool."""
LEAVE_WITHIN = 2.0
"""Seconds for telling Redis that the worker is gone; it learns that by itself, later."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the worker is, to RQ and to us."""

    name: str
    rq_key: str
    rq_channel: str
    rq_registers: list[str]
    rq_about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker ends by itself: when nothing is left (`burst`), after so many operations, or seconds of idling."""

    burst: bool = False
    operations: int | None = None
    idle: float | None = None


class Manager:
    """One worker's life. Build it with a fork_server that was forked before the loop."""

    def __init__(
        self,
        store: Store,
        registry: "TypeRegistry",
        fork_server: ForkServer,
        settings: "Settings",
        identity: Identity,
        limits: Limits,
    ) -> None:
        name = identity.name
        self._store, self._fork_server, self._settings = store, fork_server, settings
        self._identity, self._limits, self._size = identity, limits, size_of(settings)
        self._completer = Completer(store, Spool(settings.spool_dir), worker=name)
        self._executor = Executor(fork_server, kinds_of(registry), self._size, worker=name, end=self._completer.put)
        self._fetcher = Fetcher(store, self._executor, worker=name, idle=self._found_nothing, most=limits.operations)
        self._beats = Heartbeat(store, self._executor, self._completer, self._announce)
        orders = Orders(self._fetcher.wake.set, self._cancel, self.stop, self._look_again)
        self._control = Control(store, orders, worker=name, rq_channel=identity.rq_channel)
        self._presence = RqPresence(
            store.redis, key=identity.rq_key, about=identity.rq_about, registers=identity.rq_registers
        )
        self._workers = WorkerRegistry(store)
        self._stops = 0
        self._asked, self._at_once = asyncio.Event(), asyncio.Event()
        self._busy_at = 0.0

    @property
    def claimed(self) -> int:
        """How many attempts it has begun."""
        return self._fetcher.claimed

    def stop(self) -> None:
        """Claim no more and finish what runs; asked again, hand it back at once."""
        self._presence.stopping()
        self._finish()

    def _finish(self) -> None:
        self._stops += 1
        self._asked.set()
        self._fetcher.stop()
        if self._stops > 1:
            self._at_once.set()

    async def run(self) -> bool:
        """Work until stopped. Returns whether nothing was left: all was finished or handed back, and is written.

        A worker whose fork_server dies hands back and stops by itself, and returns False.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stop)
        self._busy_at = loop.time()
        await self._fork_server.open()
        await self._executor.pool.open()
        try:
            async with beside(
                self._completer.run(),
                self._beats.run(),
                self._beats.store_progress(),
                self._executor.watch(),
                self._control.run(),
                self._mind_the_nursery(),
                Sweeper(self._store).run(),
                server_check.report(self._store.redis),
            ):
                return await self._work()
        finally:
            await self._executor.pool.close()
            await self._fork_server.close()

    async def _work(self) -> bool:
        claiming = asyncio.create_task(self._fetcher.run())
        size = self._size
        log.info("worker_ready", worker=self._identity.name, concurrency=size.concurrency, processes=size.processes)
        try:
            await self._asked.wait()
            clean = await self._drain(claiming)
        finally:
            await end(claiming)
        await _within(self._leave(), LEAVE_WITHIN)
        log.info("worker_stopped", worker=self._identity.name, operations=self.claimed, clean=clean)
        return clean

    async def _leave(self) -> None:
        try:
            await self._tell_rq()
            await self._presence.leave()
            await self._workers.gone(self._identity.name)
        except Unavailable:
            log.debug("leave_not_told", reason="its entries run out by themselves")
        except Exception:
            log.exception("leave_failed")

    async def _drain(self, claiming: "asyncio.Task[None]") -> bool:
        seconds = 0.0 if self._at_once.is_set() else self._settings.drain_seconds
        log.info("worker_draining", drain_seconds=seconds, running=len(self._executor.running))
        finished = asyncio.create_task(self._finished(claiming))
        impatient = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({finished, impatient}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done() and self._executor.running:
            log.info("worker_hands_back", running=len(self._executor.running))
        self._executor.hand_back()
        graces = [attempt.record.policy.grace for attempt in self._executor.running.values()]
        await asyncio.wait({finished}, timeout=max(graces, default=0.0) + SLACK)
        await end(finished, impatient)
        written = await _within(self._completer.settled.wait(), WRITE_WITHIN)
        ended = claiming.done() and not self._fetcher.unanswered and not self._executor.running
        return written and ended and not self._fork_server.lost.is_set()

    async def _finished(self, claiming: "asyncio.Task[None]") -> None:
        await asyncio.wait({claiming})
        await self._executor.idle.wait()

    async def _mind_the_nursery(self) -> None:
        """Without it there is nothing that runs handlers: hand everything back, and let the supervisor start anew."""
        await self._fork_server.lost.wait()
        log.error("nursery_died", pid=self._fork_server.pid)
        self._executor.abandon()
        self.stop()

    def _cancel(self, key: str, attempt: int) -> None:
        self._executor.stop(key, attempt, StopReason.CANCEL)

    def _look_again(self) -> None:
        """Something may not have been heard: a ticket, a cancel."""
        self._fetcher.wake.set()
        self._beats.nudge.set()

    def _found_nothing(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._executor.running or not self._completer.settled.is_set():
            self._busy_at = now
        elif (
            self._limits.burst
            or (self._limits.operations is not None and self.claimed >= self._limits.operations)
            or (self._limits.idle is not None and now - self._busy_at >= self._limits.idle)
        ):
            self._finish()

    async def _announce(self) -> None:
        await self._tell_rq()
        await self._workers.announce(
            self._identity.name,
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "types": sorted(self._executor.kinds),
                "concurrency": self._size.concurrency,
                "processes": self._size.processes,
                "running": len(self._executor.running),
            },
        )

    async def _tell_rq(self) -> None:
        done = self._completer.take_counts()
        try:
            await self._presence.beat("busy" if self._executor.running else "idle", done)
        except Unavailable:
            self._completer.put_back(done)
            raise


def size_of(settings: "Settings") -> PoolSize:
    """How much a worker with these settings runs at once."""
    return PoolSize(
        concurrency=settings.worker_concurrency,
        processes=settings.worker_processes,
        recycle_after=settings.recycle_after,
        memory_limit=settings.memory_limit * 1024 * 1024,
    )


async def _within(done: Awaitable[Any], seconds: float) -> bool:
    try:
        await asyncio.wait_for(done, seconds)
    except TimeoutError:
        return False
    return True
