"""RQ's own workers and tools with our classes: whatever stands in Redis, they run operations and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from rq.job import Job

from tests.support.planted_jobs import (
    FUNCTION,
    plant_abandoned,
    plant_abandoned_pickle,
    plant_function,
    plant_pickle,
)
from tests.support.worker_processes import create, now, running_worker
from tracker.domain.operation import OperationStatus
from tracker.domain.transitions import Stage
from tracker.store.store import Store

WORKER = ("-m", "rq.cli", "worker", "--burst", "operations")
INFO = ("-m", "rq.cli", "info")
OUR_JOBS = ("--job-class", "workers.OperationJob")
OUR_QUEUES = ("--queue-class", "workers.OperationQueue")
JSON = ("--serializer", "json")


@dataclass(frozen=True, slots=True)
class Planted:
    """A function that is planted in Redis, and a command of RQ that would run it. `ours` are options against that."""

    plant: Callable[[Any], None]
    command: tuple[str, ...]
    ours: tuple[str, ...] = OUR_JOBS


PLANTED = {
    "function": Planted(plant_function, (*WORKER, *JSON)),
    "pickle": Planted(plant_pickle, WORKER),
    "abandoned": Planted(plant_abandoned, (*WORKER, *JSON)),
    "abandoned pickle": Planted(plant_abandoned_pickle, WORKER),
    "in SimpleWorker": Planted(plant_function, (*WORKER, "--worker-class", "rq.SimpleWorker", *JSON)),
    "in SpawnWorker": Planted(plant_function, (*WORKER, "--worker-class", "rq.worker.SpawnWorker", *JSON)),
    "by rq info": Planted(plant_abandoned_pickle, INFO, OUR_QUEUES),
}
EVERY_PLANTED = pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)


@pytest.fixture
def blocking(redis_url: str) -> Iterator[Any]:
    with BlockingRedis.from_url(redis_url) as client:
        yield client


async def printed(directory: Path, *command: str) -> str:
    """The output of a command of RQ that ends by itself."""
    async with running_worker(directory, command=command) as process:
        await process.ends()
        return process.printed()


@pytest.mark.usefixtures("settings")
@EVERY_PLANTED
async def test_what_is_planted_in_redis_does_not_run(blocking: Any, tmp_path: Path, planted: Planted) -> None:
    planted.plant(blocking)
    shown = await printed(tmp_path, *planted.command, *planted.ours)
    assert not (tmp_path / "mark").exists(), shown
    assert blocking.llen("rq:queue:operations") == 0
    assert "unhandled exception" not in shown


@pytest.mark.usefixtures("settings")
@EVERY_PLANTED
async def test_the_same_runs_with_rqs_own_classes(blocking: Any, tmp_path: Path, planted: Planted) -> None:
    planted.plant(blocking)
    shown = await printed(tmp_path, *planted.command)
    assert (tmp_path / "mark").exists(), shown


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("serializer", [JSON, ()], ids=["json", "no serializer"])
async def test_a_refused_job_is_in_the_failed_registry_and_in_the_log(
    blocking: Any, tmp_path: Path, serializer: tuple[str, ...]
) -> None:
    plant_function(blocking)
    shown = await printed(tmp_path, *WORKER, *OUR_JOBS, *serializer)
    assert '"job_refused"' in shown
    assert blocking.zrange("rq:failed:operations", 0, -1) == [b"planted"]
    assert 0 < blocking.ttl("rq:job:planted") <= 86_400, "as long as under our own worker"
    result = Job.fetch("planted", connection=blocking, serializer="json").latest_result()
    assert result is not None
    assert f'this worker runs operations, nothing else: the job calls \'["{FUNCTION}"' in str(result.exc_string)


async def test_a_ticket_with_a_planted_callback_is_refused_and_its_operation_waits(
    store: Store, blocking: Any, tmp_path: Path
) -> None:
    record = await create(store, "waits")
    blocking.hset(f"rq:job:{record.key}-{record.ticket}", mapping={"success_callback_name": FUNCTION})
    await printed(tmp_path, *WORKER, *OUR_JOBS, *JSON)
    assert not (tmp_path / "mark").exists()
    found = await now(store, record)
    assert (found.stage, found.attempt) == (Stage.QUEUED, 0)
    assert blocking.zcard("rq:failed:operations") == 1


@pytest.mark.parametrize("worker", ["rq.Worker", "rq.SimpleWorker", "rq.worker.SpawnWorker"])
async def test_operations_complete_under_each_of_rqs_workers(store: Store, tmp_path: Path, worker: str) -> None:
    (tmp_path / "all.go").touch()
    records = [await create(store, kind) for kind in ("waits", "works")]
    shown = await printed(tmp_path, *WORKER, *OUR_JOBS, *JSON, "--worker-class", worker)
    for record in records:
        assert (await now(store, record)).status is OperationStatus.COMPLETED, shown
    assert not await store.redis.zcard("rq:failed:operations")


async def test_our_own_worker_passes_over_what_is_planted(store: Store, blocking: Any, tmp_path: Path) -> None:
    plant_function(blocking)
    (tmp_path / "all.go").touch()
    record = await create(store, "waits")
    await printed(tmp_path, "-m", "rq.cli", "worker", "--burst", "--worker-class", "workers.OperationWorker")
    assert (await now(store, record)).status is OperationStatus.COMPLETED
    assert not (tmp_path / "mark").exists()
