"""Taskiq, with the broker its documentation advises (streams; its list broker is the slower one) and its results."""

import asyncio
import sys
from collections.abc import Sequence

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.system import CONCURRENCY, SLEEP, URL, System

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))


@broker.task(task_name="noop")
async def noop(number: int) -> int:
    """Do nothing."""
    return number


@broker.task(task_name="sleep")
async def sleep(number: int) -> int:
    """Wait."""
    await asyncio.sleep(SLEEP)
    return number


class Queue(System):
    """One worker process, on uvloop."""

    packages = ("taskiq", "taskiq-redis", "uvloop", "redis")

    def worker(self) -> list[str]:
        """One process, where Taskiq would start two."""
        options = ["--workers", "1", "--max-async-tasks", str(CONCURRENCY), "--log-level", "WARNING"]
        return [sys.executable, "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker", *options]

    async def open(self) -> None:
        """Connect as a client does."""
        await broker.startup()

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """One message each."""
        task = {"noop": noop, "sleep": sleep}[self.workload]
        return [(await task.kiq(number)).task_id for number in numbers]

    def seen(self) -> int:
        """A key per result, and a few of the broker's."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """A result's key is its task's id."""
        return self.ids

    async def results(self) -> list[object]:
        """As the result backend has them."""
        return [(await broker.result_backend.get_result(task_id)).return_value for task_id in self.ids]
