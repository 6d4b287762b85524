"""The worker supervisor: keeps RQ workers running, sweeps, and drains on SIGTERM."""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import structlog

from tracker import fitness, log
from tracker.background import beside
from tracker.connection import open_redis
from tracker.errors import ConfigurationError
from tracker.processes import Child, Keeper
from tracker.store import Store
from tracker.sweeper import Sweeper
from tracker.types import load_types
from workers.attempt import KILL_GRACE

if TYPE_CHECKING:
    from tracker.config import Settings

_log = structlog.get_logger()

HAND_BACK_WITHIN = KILL_GRACE + 3.0
"""Seconds that workers have to hand back after their second SIGTERM, before they are killed."""


def run(settings: "Settings", *, processes: int, drain_seconds: float) -> int:
    """Run that many RQ workers until SIGTERM or SIGINT; return the exit code.

    Then they take no more operations and have `drain_seconds` to finish; what is unfinished is handed back,
    uncharged. A second signal hands back at once. Raises ConfigurationError for types that do not load.
    """
    log.configure(settings)
    load_types(settings.type_modules)
    return asyncio.run(_supervise(settings, processes, drain_seconds))


async def _supervise(settings: "Settings", processes: int, drain_seconds: float) -> int:
    keeper = Keeper(
        [Child(f"worker-{number}", (sys.executable, "-m", "workers.worker")) for number in range(1, processes + 1)],
        fatal_exit=ConfigurationError.exit_code,
    )
    asked = asyncio.Event()
    stops: set[asyncio.Task[None]] = set()

    def stop() -> None:
        seconds = 0.0 if asked.is_set() else drain_seconds
        _log.info("worker_draining", drain_seconds=seconds, workers=len(keeper.pids))
        asked.set()
        stops.add(asyncio.create_task(keeper.stop(_escalation(seconds))))

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    async with (
        open_redis(settings, most=4) as redis,
        beside(Sweeper(Store(redis, settings)).run(), fitness.report(redis)),
    ):
        _log.info("worker_ready", processes=processes, pid=os.getpid())
        try:
            await keeper.run()
            await asked.wait()
            await asyncio.gather(*stops)
        finally:
            await keeper.stop(_escalation(0.0))
    _log.info("worker_stopped")
    return 0


def _escalation(drain_seconds: float) -> list[tuple[float, signal.Signals]]:
    """Finish the operation at hand; hand it back; be killed."""
    return [
        (0.0, signal.SIGTERM),
        (drain_seconds, signal.SIGTERM),
        (drain_seconds + HAND_BACK_WITHIN, signal.SIGKILL),
    ]
