"""Celery: its client blocks, so that what waits does so in a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.celery import app, noop
from benchmarks.web.system import WITHIN, Jobs

THREADS = 64
"""One for every client that waits."""


class Service(Jobs):
    """Commands of a quarter of a millisecond are sent as they are: a thread for each is slower."""

    packages = ("celery", "kombu", "redis")

    async def open(self) -> None:
        """Give it threads enough."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))

    async def start(self, number: int) -> str:
        """One message."""
        return noop.delay(number).id

    async def result(self, job_id: str) -> int | None:
        """As `AsyncResult` has it."""
        result = app.AsyncResult(job_id)
        return result.result if result.ready() else None

    async def wait(self, job_id: str, every: float) -> int:
        """As `AsyncResult.get` does; the Redis backend is told of the end."""
        return await asyncio.to_thread(app.AsyncResult(job_id).get, timeout=WITHIN, interval=every)
