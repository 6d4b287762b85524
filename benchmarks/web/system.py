"""What an HTTP service asks of a queue. It runs in the queue's own environment: nothing of the project is imported."""

from abc import ABC, abstractmethod
from typing import ClassVar

WITHIN = 30.0
"""Seconds that an endpoint waits for a result at most."""


class Jobs(ABC):
    """One queue with its task `noop`, which `benchmarks.peers` has, as its documentation has it used by a service."""

    packages: ClassVar[tuple[str, ...]]
    """The packages whose versions are shown."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, when the service starts."""

    @abstractmethod
    async def start(self, number: int) -> str:
        """Enqueue a task; return its id."""

    @abstractmethod
    async def result(self, job_id: str) -> int | None:
        """What the task answered; None while it has not ended."""

    @abstractmethod
    async def wait(self, job_id: str, every: float) -> int:
        """Wait for the task's end; where the queue does so by looking again, every so many seconds."""

    async def done(self, number: int, every: float) -> int:
        """Enqueue a task and wait for its end."""
        return await self.wait(await self.start(number), every)
