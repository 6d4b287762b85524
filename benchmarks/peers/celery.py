"""Celery, with the Redis broker and result backend."""

import sys
import time
from collections.abc import Sequence

from celery import Celery

from benchmarks.peers.system import CONCURRENCY, CORES, SLEEP, URL, System

PREFETCH = 16
"""Messages fetched ahead per process or thread; the documentation advises many for short tasks."""
app = Celery("bench", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=PREFETCH)


@app.task(name="noop")
def noop(number: int) -> int:
    """Do nothing."""
    return number


@app.task(name="sleep")
def sleep(number: int) -> int:
    """Wait."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker: with its default pool, a process per core, for `noop`; with threads for tasks that wait."""

    packages = ("celery", "kombu", "redis")

    def worker(self) -> list[str]:
        """Gossip, mingle and heartbeats are between workers; with one worker there is nobody to talk to."""
        pool, concurrency = ("prefork", CORES) if self.workload == "noop" else ("threads", CONCURRENCY)
        options = ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "WARNING"]
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "--quiet", "--app", "benchmarks.peers.celery", "worker"]
        return [*command, *options, *alone]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """One message each; then let go of the results, of which the server would tell this process."""
        with app.producer_pool.acquire(block=True) as producer:
            task = app.tasks[self.workload]
            ids = [task.apply_async((number,), producer=producer).id for number in numbers]
        app.backend.result_consumer.stop()
        return ids

    def seen(self) -> int:
        """A key per result, and a few of the broker's."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """Where the backend keeps them."""
        return [app.backend.get_key_for_task(task_id).decode() for task_id in self.ids]

    async def results(self) -> list[object]:
        """As `AsyncResult.result` has them."""
        return [app.AsyncResult(task_id).result for task_id in self.ids]
