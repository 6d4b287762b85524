"""Interface between an HTTP service and a queue.

This module runs in the queue's own environment, so it imports nothing from the tracker.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

WITHIN = 30.0
"""The longest time in seconds that an endpoint waits for a result."""


class Jobs(ABC):
    """One queue with the task `noop` of `benchmarks.peers`, called as the queue's documentation shows."""

    packages: ClassVar[tuple[str, ...]]
    """The packages whose versions are printed."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. The service calls this method when it starts."""

    @abstractmethod
    async def start(self, number: int) -> str:
        """Enqueue a task and return its id."""

    @abstractmethod
    async def result(self, job_id: str) -> int | None:
        """The result of the task, or None while the task has not ended."""

    @abstractmethod
    async def wait(self, job_id: str, every: float) -> int:
        """Wait for the end of the task and return its result. A queue that polls does so every `every` seconds."""

    async def done(self, number: int, every: float) -> int:
        """Enqueue a task, wait for its end, and return its result."""
        return await self.wait(await self.start(number), every)
