"""Taskiq, with the stream broker that its documentation recommends, and Redis for results, for `make bench-workers`."""

import asyncio
import sys
from collections.abc import Sequence

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.system import CONCURRENCY, SLEEP, URL, System

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    """Return the number."""
    return number


@broker.task(task_name="sleep")
async def sleep(number: int) -> int:
    """Sleep, then return the number."""
    await asyncio.sleep(SLEEP)
    return number


class Queue(System):
    """One worker process on uvloop."""

    packages = ("taskiq", "taskiq-redis", "uvloop", "redis")

    def worker(self) -> list[str]:
        """The command `taskiq worker`, with one process. By default Taskiq starts two."""
        options = ["--workers", "1", "--max-async-tasks", str(CONCURRENCY), "--log-level", "WARNING"]
        return [sys.executable, "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker", *options]

    async def open(self) -> None:
        """Start the broker, as a client does."""
        await broker.startup()

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Send one message per number."""
        task = {"noop": noop, "sleep": sleep}[self.workload]
        return [(await task.kiq(number)).task_id for number in numbers]

    def seen(self) -> int:
        """The number of keys: a key per result, and a few keys of the broker."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """The ids of the tasks, which are the keys of their results."""
        return self.ids

    async def results(self) -> list[object]:
        """The results in the result backend."""
        return [(await broker.result_backend.get_result(task_id)).return_value for task_id in self.ids]
