"""SAQ, with its Redis queue, for `make bench-workers`."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from saq import Queue as SaqQueue
from saq import Status

from benchmarks.peers.system import CONCURRENCY, SLEEP, URL, System

queue = SaqQueue.from_url(URL)


async def noop(_: dict[str, Any], *, number: int) -> int:
    """Return the number."""
    return number


async def sleep(_: dict[str, Any], *, number: int) -> int:
    """Sleep, then return the number."""
    await asyncio.sleep(SLEEP)
    return number


asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
settings = {"queue": queue, "functions": [noop, sleep], "concurrency": CONCURRENCY}


class Queue(System):
    """One worker process on uvloop."""

    packages = ("saq", "uvloop", "redis")

    def worker(self) -> list[str]:
        """The command `saq`, without `--verbose`, by which SAQ logs every job."""
        return [sys.executable, "-m", "saq", "benchmarks.peers.saq.settings"]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Enqueue one job per number."""
        jobs = [await queue.enqueue(self.workload, number=number) for number in numbers]
        return [job.key for job in jobs if job is not None]

    def seen(self) -> int:
        """How many jobs have left the set of `Queue.count("incomplete")`. A job leaves the set when it has a result."""
        return len(self.ids) - int(self.redis.zcard(queue.namespace("incomplete")))

    async def results(self) -> list[object]:
        """The values of `Job.result`."""
        jobs = await queue.jobs(self.ids)
        return [job.result if job is not None and job.status is Status.COMPLETE else None for job in jobs]
