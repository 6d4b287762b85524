"""SAQ behind an HTTP service, for `make bench-api`."""

from contextlib import suppress

from benchmarks.peers.saq import queue
from benchmarks.web.system import WITHIN, Jobs

LOOK_AGAIN = 0.1
"""Seconds after which a wait subscribes again, because its subscription may have missed the end."""


class Service(Jobs):
    """SAQ's queue."""

    packages = ("saq", "redis")

    async def open(self) -> None:
        """Connect the queue, as a client does."""
        await queue.connect()

    async def start(self, number: int) -> str:
        """Enqueue one job."""
        job = await queue.enqueue("noop", number=number)
        assert job is not None
        return job.key

    async def result(self, job_id: str) -> int | None:
        """Read the job, and return its result if the job is complete."""
        job = await queue.job(job_id)
        return job.result if job is not None and job.completed else None

    async def wait(self, job_id: str, every: float) -> int:  # noqa: ARG002 - SAQ is notified and does not poll
        """Call `Job.refresh`, which subscribes to the end.

        `Job.refresh` reads the job before it subscribes. It misses an end between the two.
        """
        job = await queue.job(job_id)
        assert job is not None
        for _ in range(round(WITHIN / LOOK_AGAIN)):
            with suppress(TimeoutError):
                await job.refresh(until_complete=LOOK_AGAIN)
                break
        return job.result

    async def done(self, number: int, every: float) -> int:
        """Call `Queue.apply`, which polls."""
        return await queue.apply("noop", timeout=WITHIN, poll_interval=every, number=number)
