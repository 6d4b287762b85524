"""arq behind an HTTP service, for `make bench-api`."""

from arq import create_pool
from arq.connections import ArqRedis
from arq.jobs import Job

from benchmarks.peers.arq import WorkerSettings
from benchmarks.web.system import WITHIN, Jobs


class Service(Jobs):
    """arq's pool of connections, and `Job`."""

    packages = ("arq", "redis")
    pool: ArqRedis

    async def open(self) -> None:
        """Open a pool of connections, as a client does."""
        self.pool = await create_pool(WorkerSettings.redis_settings)

    async def start(self, number: int) -> str:
        """Enqueue one job."""
        job = await self.pool.enqueue_job("noop", number)
        assert job is not None
        return job.job_id

    async def result(self, job_id: str) -> int | None:
        """Read the result by one command of Redis. `status` and `result` would take two."""
        info = await Job(job_id, self.pool).result_info()
        return None if info is None else info.result

    async def wait(self, job_id: str, every: float) -> int:
        """Call `Job.result`, which polls."""
        return await Job(job_id, self.pool).result(timeout=WITHIN, poll_delay=every)
