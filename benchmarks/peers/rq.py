"""Stock RQ: its forking `Worker`, or its `SimpleWorker`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rq
from rq.job import Job

from benchmarks.peers.system import SLEEP, URL, System


def noop(number: int) -> int:
    """Do nothing."""
    return number


def sleep(number: int) -> int:
    """Wait."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker of the class that the variant names."""

    packages = ("rq", "redis")
    _before = 0

    def worker(self) -> list[str]:
        """With warnings only."""
        options = ["--url", URL, "--worker-class", f"rq.worker.{self.variant}", "--quiet"]
        return [str(Path(sys.executable).with_name("rq")), "worker", "bench", *options]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """All at once, as `Queue.enqueue_many` does."""
        function = {"noop": noop, "sleep": sleep}[self.workload]
        queue = rq.Queue("bench", connection=self.redis)
        self._before = len(queue.finished_job_registry)
        jobs = queue.enqueue_many([rq.Queue.prepare_data(function, (number,)) for number in numbers])
        return [job.id for job in jobs]

    def seen(self) -> int:
        """What came to the registry of finished jobs since the load."""
        return int(self.redis.zcard("rq:finished:bench")) - self._before

    async def results(self) -> list[object]:
        """As `Job.return_value` has them."""
        jobs = Job.fetch_many(self.ids, connection=self.redis)
        return [job.return_value() if job is not None and job.is_finished else None for job in jobs]
