"""RQ without changes, with its forking `Worker` or its `SimpleWorker`, for `make bench-workers`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rq
from rq.job import Job

from benchmarks.peers.system import SLEEP, URL, System


def noop(number: int) -> int:
    """Return the number."""
    return number


def sleep(number: int) -> int:
    """Sleep, then return the number."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker of the class that the variant names."""

    packages = ("rq", "redis")
    _before = 0

    def worker(self) -> list[str]:
        """The command `rq worker`, which logs warnings only."""
        options = ["--url", URL, "--worker-class", f"rq.worker.{self.variant}", "--quiet"]
        return [str(Path(sys.executable).with_name("rq")), "worker", "bench", *options]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Enqueue all jobs in one call of `Queue.enqueue_many`."""
        function = {"noop": noop, "sleep": sleep}[self.workload]
        queue = rq.Queue("bench", connection=self.redis)
        self._before = len(queue.finished_job_registry)
        jobs = queue.enqueue_many([rq.Queue.prepare_data(function, (number,)) for number in numbers])
        return [job.id for job in jobs]

    def seen(self) -> int:
        """How many jobs came into the registry of finished jobs after the load."""
        return int(self.redis.zcard("rq:finished:bench")) - self._before

    async def results(self) -> list[object]:
        """The values of `Job.return_value`."""
        jobs = Job.fetch_many(self.ids, connection=self.redis)
        return [job.return_value() if job is not None and job.is_finished else None for job in jobs]
