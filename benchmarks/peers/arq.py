"""arq, for `make bench-workers`."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name, result_key_prefix
from arq.jobs import Job

from benchmarks.peers.system import CONCURRENCY, SLEEP, URL, System

QUIET = {"version": 1}
"""A logging configuration, in the form of `logging.config.dictConfig`, that adds nothing to Python's own."""


async def noop(_: dict[str, Any], number: int) -> int:
    """Return the number."""
    return number


async def sleep(_: dict[str, Any], number: int) -> int:
    """Sleep, then return the number."""
    await asyncio.sleep(SLEEP)
    return number


class WorkerSettings:
    """The settings of the command `arq`. arq polls every `poll_delay` seconds; a shorter delay is not faster."""

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    functions: ClassVar = [noop, sleep]
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = CONCURRENCY
    poll_delay = 0.1


class Queue(System):
    """One worker process on uvloop."""

    packages = ("arq", "uvloop", "redis")
    pool: ArqRedis

    def worker(self) -> list[str]:
        """The command `arq`, with another logging configuration, because the default one logs every job."""
        logs = ["--custom-log-dict", "benchmarks.peers.arq.QUIET"]
        return [sys.executable, "-m", "arq", "benchmarks.peers.arq.WorkerSettings", *logs]

    async def open(self) -> None:
        """Open a pool of connections, as a client does."""
        self.pool = await create_pool(WorkerSettings.redis_settings)

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Enqueue one job per number."""
        jobs = [await self.pool.enqueue_job(self.workload, number) for number in numbers]
        return [job.job_id for job in jobs if job is not None]

    def seen(self) -> int:
        """How many of the jobs are no longer in the queue."""
        return len(self.ids) - int(self.redis.zcard(default_queue_name))

    def result_keys(self) -> list[str]:
        """The keys under which arq keeps results."""
        return [f"{result_key_prefix}{job_id}" for job_id in self.ids]

    async def results(self) -> list[object]:
        """The values of `Job.result`."""
        return [await Job(job_id, self.pool).result(timeout=1, poll_delay=0) for job_id in self.ids]
