"""Taskiq behind an HTTP service, for `make bench-api`."""

from taskiq import AsyncTaskiqTask
from taskiq_redis.exceptions import ResultIsMissingError

from benchmarks.peers.taskiq import broker, noop
from benchmarks.web.system import WITHIN, Jobs


class Service(Jobs):
    """Taskiq's broker and its result backend."""

    packages = ("taskiq", "taskiq-redis", "redis")

    async def open(self) -> None:
        """Start the broker, as a client does."""
        await broker.startup()

    async def start(self, number: int) -> str:
        """Send one message."""
        return (await noop.kiq(number)).task_id

    async def result(self, job_id: str) -> int | None:
        """Read the result by one command of Redis. `is_ready` and `get_result` would take two."""
        try:
            return (await broker.result_backend.get_result(job_id)).return_value
        except ResultIsMissingError:
            return None

    async def wait(self, job_id: str, every: float) -> int:
        """Call `wait_result`, which polls."""
        task = AsyncTaskiqTask(job_id, broker.result_backend)
        return (await task.wait_result(check_interval=every, timeout=WITHIN)).return_value
