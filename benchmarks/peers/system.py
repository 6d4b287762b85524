"""What the benchmark asks of a queue. It runs in the queue's own environment: nothing of the project is imported."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from redis import Redis

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
"""The server that both the worker and those who give it work use."""
CORES = os.cpu_count() or 1
CONCURRENCY = 100
"""What an event loop or a set of threads runs at once; the same for every system that has one."""
SLEEP = 0.005
"""Seconds that a task of the `sleep` workload takes. Each task answers the number it was given."""


class System(ABC):
    """One queue. Its module has the tasks `noop` and `sleep`, and is what its worker is started with."""

    packages: ClassVar[tuple[str, ...]]
    """The packages whose versions are shown."""

    def __init__(self, variant: str, workload: str) -> None:
        self.variant, self.workload = variant, workload
        self.redis: Redis = Redis.from_url(URL)
        self.ids: list[str] = []

    @abstractmethod
    def worker(self) -> list[str]:
        """The command line that starts one worker, as the queue's documentation has it; no log below WARNING."""

    async def open(self) -> None:  # noqa: B027 - not every queue has to connect
        """Connect."""

    @abstractmethod
    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Enqueue a task of the workload for each number; return their ids."""

    @abstractmethod
    def seen(self) -> int:
        """How many of the tasks in `ids` are done, or more, by a command that costs the server next to nothing."""

    def result_keys(self) -> list[str]:
        """The key of each result, where `seen` may count too many; none where it is exact."""
        return []

    def done(self) -> int:
        """How many of the tasks in `ids` are done."""
        count, keys = self.seen(), self.result_keys()
        return int(self.redis.exists(*keys)) if keys and count >= len(keys) else min(count, len(self.ids))

    @abstractmethod
    async def results(self) -> Sequence[object]:
        """What the queue's documented interface answers for each of `ids`."""
