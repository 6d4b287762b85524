"""Dramatiq, with the Redis broker and its results middleware."""

import sys
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.system import SLEEP, URL, System

THREADS = 32
backend = RedisBackend(url=URL)
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(number: int) -> int:
    """Do nothing."""
    return number


@dramatiq.actor(store_results=True)
def sleep(number: int) -> int:
    """Wait."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker process. With 32 threads it is at its fastest: 8, the default, starve it as soon as a task waits."""

    packages = ("dramatiq", "redis")

    def __init__(self, variant: str, workload: str) -> None:
        super().__init__(variant, workload)
        self._messages: list[dramatiq.Message] = []

    def worker(self) -> list[str]:
        """One process, where Dramatiq would start one per core."""
        options = ["--processes", "1", "--threads", str(THREADS), "--skip-logging"]
        return [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq", *options]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """One message each."""
        actor = {"noop": noop, "sleep": sleep}[self.workload]
        self._messages = [actor.send(number) for number in numbers]
        return [message.message_id for message in self._messages]

    def seen(self) -> int:
        """A key per result, and a few of the broker's."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """Where the backend keeps them."""
        return [backend.build_message_key(message) for message in self._messages]

    async def results(self) -> list[object]:
        """As `Message.get_result` has them."""
        return [message.get_result(backend=backend) for message in self._messages]
