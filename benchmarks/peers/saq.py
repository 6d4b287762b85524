"""SAQ, with its Redis queue."""

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
    """Do nothing."""
    return number


async def sleep(_: dict[str, Any], *, number: int) -> int:
    """Wait."""
    await asyncio.sleep(SLEEP)
    return number


asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
settings = {"queue": queue, "functions": [noop, sleep], "concurrency": CONCURRENCY}


class Queue(System):
    """One worker, on uvloop."""

    packages = ("saq", "uvloop", "redis")

    def worker(self) -> list[str]:
        """Without its logging of every job, which `--verbose` would turn on."""
        return [sys.executable, "-m", "saq", "benchmarks.peers.saq.settings"]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """One job each."""
        jobs = [await queue.enqueue(self.workload, number=number) for number in numbers]
        return [job.key for job in jobs if job is not None]

    def seen(self) -> int:
        """What is no longer in the set that `Queue.count("incomplete")` counts; a job leaves it with its result."""
        return len(self.ids) - int(self.redis.zcard(queue.namespace("incomplete")))

    async def results(self) -> list[object]:
        """As the jobs have them."""
        jobs = await queue.jobs(self.ids)
        return [job.result if job is not None and job.status is Status.COMPLETE else None for job in jobs]
