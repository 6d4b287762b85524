"""Celery behind an HTTP service, for `make bench-api`. Celery's client blocks, so that waits run in threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.celery import app, noop
from benchmarks.web.system import WITHIN, Jobs

THREADS = 64
"""The number of threads: a thread for every client of the load."""


class Service(Jobs):
    """Celery's client. Calls of a quarter of a millisecond block the event loop: a thread for each is slower."""

    packages = ("celery", "kombu", "redis")

    async def open(self) -> None:
        """Set a default executor with enough threads."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))

    async def start(self, number: int) -> str:
        """Send one message."""
        return noop.delay(number).id

    async def result(self, job_id: str) -> int | None:
        """Read the result by `AsyncResult`."""
        result = app.AsyncResult(job_id)
        return result.result if result.ready() else None

    async def wait(self, job_id: str, every: float) -> int:
        """Call `AsyncResult.get` in a thread. The Redis backend has a subscription to the result."""
        return await asyncio.to_thread(app.AsyncResult(job_id).get, timeout=WITHIN, interval=every)
