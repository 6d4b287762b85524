"""Celery, with the Redis broker and the Redis result backend, for `make bench-workers`."""

import sys
import time
from collections.abc import Sequence

from celery import Celery

from benchmarks.peers.system import CONCURRENCY, CORES, SLEEP, URL, System

PREFETCH = 16
"""How many messages each process or thread fetches ahead. The documentation recommends many for short tasks."""
app = Celery("bench", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=PREFETCH)


@app.task(name="noop")
def noop(number: int) -> int:
    """Return the number."""
    return number


@app.task(name="sleep")
def sleep(number: int) -> int:
    """Sleep, then return the number."""
    time.sleep(SLEEP)
    return number


class Queue(System):
    """One worker. `noop` runs in the default pool, a process per core; `sleep` runs in threads, because it waits."""

    packages = ("celery", "kombu", "redis")

    def worker(self) -> list[str]:
        """The command `celery worker`, without gossip, mingle and heartbeats, which are messages between workers."""
        pool, concurrency = ("prefork", CORES) if self.workload == "noop" else ("threads", CONCURRENCY)
        options = ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "WARNING"]
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "--quiet", "--app", "benchmarks.peers.celery", "worker"]
        return [*command, *options, *alone]

    async def load(self, numbers: Sequence[int]) -> list[str]:
        """Send one message per number. Then end the subscription to the results, which would cost the server time."""
        with app.producer_pool.acquire(block=True) as producer:
            task = app.tasks[self.workload]
            ids = [task.apply_async((number,), producer=producer).id for number in numbers]
        app.backend.result_consumer.stop()
        return ids

    def seen(self) -> int:
        """The number of keys: a key per result, and a few keys of the broker."""
        return int(self.redis.dbsize())

    def result_keys(self) -> list[str]:
        """The keys under which the backend keeps results."""
        return [app.backend.get_key_for_task(task_id).decode() for task_id in self.ids]

    async def results(self) -> list[object]:
        """The values of `AsyncResult.result`."""
        return [app.AsyncResult(task_id).result for task_id in self.ids]
