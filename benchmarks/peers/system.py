"""Interface between `make bench-workers` and a queue.

This module runs in the queue's own environment, so it imports nothing from the tracker.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from redis import Redis

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
"""URL of the Redis server, for the worker and for its clients."""
CORES = os.cpu_count() or 1
CONCURRENCY = 100
"""How many tasks an event loop or a set of threads runs at once. Every system has the same number."""
SLEEP = 0.005
"""The length of a task of the workload `sleep`, in seconds."""


class System(ABC):
    """One queue. The module of each queue has the tasks `noop` and `sleep`, which answer their number."""

    packages: ClassVar[tuple[str, ...]]
    """The packages whose versions are printed."""

    def __init__(self, variant: str, workload: str) -> None:
        self.variant, self.workload = variant, workload
        self.redis: Redis = Redis.from_url(URL)
        self.ids: list[str] = []

    @abstractmethod
    def worker(self) -> list[str]:
        """The command line of one worker, as in the queue's documentation, with a log of warnings only."""

    async def open(self) -> None:  # noqa: B027 - not every queue has to connect
        """Connect."""

    @abstractmethod
    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Enqueue a task of the workload for each number. Returns the ids of the tasks."""

    @abstractmethod
    def seen(self) -> int:
        """How many of the tasks in `ids` are done, by a command that costs little. The count may be too high."""

    def result_keys(self) -> list[str]:
        """The key of each result, for a queue whose `seen` may count too many. Empty where `seen` is exact."""
        return []

    def done(self) -> int:
        """How many of the tasks in `ids` are done."""
        count, keys = self.seen(), self.result_keys()
        return int(self.redis.exists(*keys)) if keys and count >= len(keys) else min(count, len(self.ids))

    @abstractmethod
    async def results(self) -> Sequence[object]:
        """The result of each task in `ids`, read by the interface that the queue documents."""
