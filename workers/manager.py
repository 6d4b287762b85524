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
from tracker.store.worker_registry import Workers
from workers.attempt import Stop
from workers.completer import Committer
from workers.control import Control, Orders
from workers.executor import Engine, kinds_of
from workers.fetcher import Claimer
from workers.fork_server import Nursery
from workers.heartbeat import Beats
from workers.pool import Size
from workers.rq_presence import Presence
from workers.spool import Spool

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.domain.type_registry import Catalogue

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
    """One worker's life. Build it with a nursery that was forked before the loop."""

    def __init__(
        self,
        store: Store,
        catalogue: "Catalogue",
        nursery: Nursery,
        settings: "Settings",
        identity: Identity,
        limits: Limits,
    ) -> None:
        name = identity.name
        self._store, self._nursery, self._settings = store, nursery, settings
        self._identity, self._limits, self._size = identity, limits, size_of(settings)
        self._committer = Committer(store, Spool(settings.spool_dir), worker=name)
        self._engine = Engine(nursery, kinds_of(catalogue), self._size, worker=name, end=self._committer.put)
        self._claimer = Claimer(store, self._engine, worker=name, idle=self._found_nothing, most=limits.operations)
        self._beats = Beats(store, self._engine, self._committer, self._announce)
        orders = Orders(self._claimer.wake.set, self._cancel, self.stop, self._look_again)
        self._control = Control(store, orders, worker=name, rq_channel=identity.rq_channel)
        self._presence = Presence(
            store.redis, key=identity.rq_key, about=identity.rq_about, registers=identity.rq_registers
        )
        self._workers = Workers(store)
        self._stops = 0
        self._asked, self._at_once = asyncio.Event(), asyncio.Event()
        self._busy_at = 0.0

    @property
    def claimed(self) -> int:
        """How many attempts it has begun."""
        return self._claimer.claimed

    def stop(self) -> None:
        """Claim no more and finish what runs; asked again, hand it back at once."""
        self._presence.stopping()
        self._finish()

    def _finish(self) -> None:
        self._stops += 1
        self._asked.set()
        self._claimer.stop()
        if self._stops > 1:
            self._at_once.set()

    async def run(self) -> bool:
        """Work until stopped. Returns whether nothing was left: all was finished or handed back, and is written.

        A worker whose nursery dies hands back and stops by itself, and returns False.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stop)
        self._busy_at = loop.time()
        await self._nursery.open()
        await self._engine.pool.open()
        try:
            async with beside(
                self._committer.run(),
                self._beats.run(),
                self._beats.store_progress(),
                self._engine.watch(),
                self._control.run(),
                self._mind_the_nursery(),
                Sweeper(self._store).run(),
                server_check.report(self._store.redis),
            ):
                return await self._work()
        finally:
            await self._engine.pool.close()
            await self._nursery.close()

    async def _work(self) -> bool:
        claiming = asyncio.create_task(self._claimer.run())
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
        log.info("worker_draining", drain_seconds=seconds, running=len(self._engine.running))
        finished = asyncio.create_task(self._finished(claiming))
        impatient = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({finished, impatient}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done() and self._engine.running:
            log.info("worker_hands_back", running=len(self._engine.running))
        self._engine.hand_back()
        graces = [attempt.record.policy.grace for attempt in self._engine.running.values()]
        await asyncio.wait({finished}, timeout=max(graces, default=0.0) + SLACK)
        await end(finished, impatient)
        written = await _within(self._committer.settled.wait(), WRITE_WITHIN)
        ended = claiming.done() and not self._claimer.unanswered and not self._engine.running
        return written and ended and not self._nursery.lost.is_set()

    async def _finished(self, claiming: "asyncio.Task[None]") -> None:
        await asyncio.wait({claiming})
        await self._engine.idle.wait()

    async def _mind_the_nursery(self) -> None:
        """Without it there is nothing that runs handlers: hand everything back, and let the supervisor start anew."""
        await self._nursery.lost.wait()
        log.error("nursery_died", pid=self._nursery.pid)
        self._engine.abandon()
        self.stop()

    def _cancel(self, key: str, attempt: int) -> None:
        self._engine.stop(key, attempt, Stop.CANCEL)

    def _look_again(self) -> None:
        """Something may not have been heard: a ticket, a cancel."""
        self._claimer.wake.set()
        self._beats.nudge.set()

    def _found_nothing(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._engine.running or not self._committer.settled.is_set():
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
                "types": sorted(self._engine.kinds),
                "concurrency": self._size.concurrency,
                "processes": self._size.processes,
                "running": len(self._engine.running),
            },
        )

    async def _tell_rq(self) -> None:
        done = self._committer.take_counts()
        try:
            await self._presence.beat("busy" if self._engine.running else "idle", done)
        except Unavailable:
            self._committer.put_back(done)
            raise


def size_of(settings: "Settings") -> Size:
    """How much a worker with these settings runs at once."""
    return Size(
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
