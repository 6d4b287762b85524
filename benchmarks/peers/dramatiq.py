"""Dramatiq, with the Redis broker and the middleware for results, for `make bench-workers`."""

import sys
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.system import SLEEP, URL, System

THREADS = 32
"""The number at which Dramatiq is fastest. With the default of 8, all threads may wait in tasks at the same time."""
backend = RedisBackend(url=URL)
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(number: int) -> int:
    """Return the number."""
    return number


@dramatiq.actor(store_results=True)
def sleep(number: int) -> int:
    """Sleep, then return the number."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker process with 32 threads."""

    packages = ("dramatiq", "redis")

    def __init__(self, variant: str, workload: str) -> None:
        super().__init__(variant, workload)
        self._messages: list[dramatiq.Message] = []

    def worker(self) -> list[str]:
        """The command `dramatiq`, with one process. By default Dramatiq starts a process per core."""
        options = ["--processes", "1", "--threads", str(THREADS), "--skip-logging"]
        return [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq", *options]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Send one message per number."""
        actor = {"noop": noop, "sleep": sleep}[self.workload]
        self._messages = [actor.send(number) for number in numbers]
        return [message.message_id for message in self._messages]

    def seen(self) -> int:
        """The number of keys: a key per result, and a few keys of the broker."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """The keys under which the backend keeps results."""
        return [backend.build_message_key(message) for message in self._messages]

    async def results(self) -> list[object]:
        """The values of `Message.get_result`."""
        return [message.get_result(backend=backend) for message in self._messages]
