"""SAQ."""

from contextlib import suppress

from benchmarks.peers.saq import queue
from benchmarks.web.system import WITHIN, Jobs

LOOK_AGAIN = 0.1
"""Seconds after which it is not waited for any longer that the server is told."""


class Service(Jobs):
    """A queue, and its jobs by their keys."""

    packages = ("saq", "redis")

    async def open(self) -> None:
        """Connect as a client does."""
        await queue.connect()

    async def start(self, number: int) -> str:
        """One job."""
        job = await queue.enqueue("noop", number=number)
        assert job is not None
        return job.key

    async def result(self, job_id: str) -> int | None:
        """As the job has it."""
        job = await queue.job(job_id)
        return job.result if job is not None and job.completed else None

    async def wait(self, job_id: str, every: float) -> int:  # noqa: ARG002 - it is told of the end
        """As `Job.refresh` does, by a subscription, which misses an end between its look and its beginning."""
        job = await queue.job(job_id)
        assert job is not None
        for _ in range(round(WITHIN / LOOK_AGAIN)):
            with suppress(TimeoutError):
                await job.refresh(until_complete=LOOK_AGAIN)
                break
        return job.result

    async def done(self, number: int, every: float) -> int:
        """As `Queue.apply` does, by looking again."""
        return await queue.apply("noop", timeout=WITHIN, poll_interval=every, number=number)
