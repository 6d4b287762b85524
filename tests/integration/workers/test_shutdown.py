"""The ends of a worker: at a signal, when killed, when its fork server dies, and at the limits of RQ's options."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.dev_stack import descendants
from tests.support.handler_files import began, exists, let_go
from tests.support.processes import alive, gone
from tests.support.waiting import eventually
from tests.support.worker_processes import BY_RQ, Worker, create, final, now, one_ticket, running_worker
from tracker.domain.operation import OperationStatus
from tracker.domain.transitions import Stage
from tracker.store.store import Store
from tracker.store.worker_registry import WorkerRegistry

TERM, KILL = signal.SIGTERM, signal.SIGKILL


def tell(worker: Worker, signum: signal.Signals = TERM) -> None:
    worker.process.send_signal(signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_draining_worker_claims_no_more_and_lets_its_operations_end(
    store: Store, tmp_path: Path, signum: signal.Signals
) -> None:
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path) as worker:
        for record in records:
            await began(tmp_path, record)
        tell(worker, signum)
        await worker.wait_for_log("worker_draining")
        late = await create(store, "waits")
        let_go(tmp_path)
        assert await worker.ends() == 0
    for record in records:
        ended = await now(store, record)
        assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
    assert ((await now(store, late)).stage, (await now(store, late)).attempt) == (Stage.QUEUED, 0)


async def test_what_is_not_done_after_the_drain_is_handed_back_uncharged(store: Store, tmp_path: Path) -> None:
    records = [await create(store, kind) for kind in ("waits", "works", "waits")]
    async with running_worker(tmp_path, TRACKER_DRAIN_SECONDS="0.5") as worker:
        for record in records:
            await began(tmp_path, record)
        tell(worker)
        await worker.wait_for_log("worker_draining")
        let_go(tmp_path, records[2])
        assert await worker.ends() == 0
    assert (await now(store, records[2])).status is OperationStatus.COMPLETED
    for record in records[:2]:
        back = await now(store, record)
        assert (back.stage, back.attempt, back.charged) == (Stage.QUEUED, 1, 0)
        assert back.ticket > record.ticket
        assert exists(tmp_path / f"{record.id}.stopped"), "its handler could clean up"
        [entry] = await store.history(record.key)
        assert entry["outcome"] == "hand_back"
    let_go(tmp_path)
    async with running_worker(tmp_path):
        for record in records[:2]:
            assert (await final(store, record)).attempt == 2


async def test_a_second_signal_hands_back_at_once(store: Store, tmp_path: Path) -> None:
    record = await create(store, "waits")
    async with running_worker(tmp_path, TRACKER_DRAIN_SECONDS="600") as worker:
        await began(tmp_path, record)
        tell(worker)
        await worker.wait_for_log("worker_draining")
        tell(worker)
        assert await worker.ends() == 0
    assert ((await now(store, record)).stage, (await now(store, record)).charged) == (Stage.QUEUED, 0)


async def test_handlers_that_do_not_stop_are_killed_and_handed_back(store: Store, tmp_path: Path) -> None:
    records = [await create(store, kind, grace=0.3) for kind in ("clings", "deaf")]
    async with running_worker(tmp_path, TRACKER_DRAIN_SECONDS="0") as worker:
        hosts = [await began(tmp_path, record) for record in records]
        tell(worker)
        assert await worker.ends() == 0
    for host in hosts:
        await gone(host)
    for record in records:
        back = await now(store, record)
        assert (back.stage, back.attempt, back.charged) == (Stage.QUEUED, 1, 0)


async def test_a_work_horse_of_rqs_own_worker_hands_back_at_sigterm(store: Store, tmp_path: Path) -> None:
    record = await create(store, "works")
    async with running_worker(tmp_path, command=one_ticket(record)) as horse:
        await began(tmp_path, record)
        tell(horse)
        assert await horse.ends() == 0
    back = await now(store, record)
    assert (back.stage, back.attempt, back.charged) == (Stage.QUEUED, 1, 0)
    assert exists(tmp_path / f"{record.id}.stopped")


async def test_a_worker_stopped_by_signals_to_all_its_processes_charges_nobody(store: Store, tmp_path: Path) -> None:
    """As a service manager does that stops a whole control group."""
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path, TRACKER_DRAIN_SECONDS="0.2") as worker:
        for record in records:
            await began(tmp_path, record)
        for pid in (*descendants(worker.process.pid), worker.process.pid):
            os.kill(pid, TERM)
        assert await worker.ends() == 0
    for record in records:
        assert ((await now(store, record)).stage, (await now(store, record)).charged) == (Stage.QUEUED, 0)


async def test_a_worker_hands_back_uncharged_and_ends_with_1_when_its_fork_server_dies(
    store: Store, tmp_path: Path
) -> None:
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path) as worker:
        hosts = [await began(tmp_path, record) for record in records]
        fork_server = (await worker_tree(worker))[0]
        os.kill(fork_server, KILL)
        assert await worker.ends() == 1
        assert worker.logged("nursery_died")
    for host in hosts:
        await gone(host)
    for record in records:
        back = await now(store, record)
        assert (back.stage, back.attempt, back.charged, back.lost_workers) == (Stage.DELAYED, 1, 0, 1)


async def worker_tree(worker: Worker) -> list[int]:
    """The fork_server, then its hosts."""

    async def tree() -> list[int] | None:
        pids = descendants(worker.process.pid)
        return pids if len(pids) == 3 else None

    return await eventually(tree)


async def test_nothing_outlives_a_worker_that_is_killed(store: Store, tmp_path: Path) -> None:
    record = await create(store, "works")
    async with running_worker(tmp_path) as worker:
        await began(tmp_path, record)
        pids = await worker_tree(worker)
        worker.process.kill()
        await worker.ends()
    for pid in pids:
        await gone(pid)


async def test_a_host_that_dies_costs_its_own_operations_one_attempt_and_is_replaced(
    store: Store, tmp_path: Path
) -> None:
    neighbour, record = await create(store, "works"), await create(store, "waits", backoff_first=0.01)
    async with running_worker(tmp_path) as worker:
        host, other = await began(tmp_path, record), await began(tmp_path, neighbour)
        (tmp_path / f"{record.id}.began").unlink()
        os.kill(host, KILL)
        assert await began(tmp_path, record) != host
        assert alive(other)
        assert (await worker.wait_for_log("host_died"))["exit_code"] == -KILL
        let_go(tmp_path)
        ended = [await final(store, each) for each in (record, neighbour)]
    assert [(each.status, each.attempt, each.charged) for each in ended] == [
        (OperationStatus.COMPLETED, 2, 1),
        (OperationStatus.COMPLETED, 1, 0),
    ]
    [entry] = await store.history(record.key)
    assert (entry["outcome"], entry["signal"], entry["worker"]) == ("retry", -KILL, ended[0].worker)
    assert "out of memory" in entry["hint"]
    assert entry["peak_rss"] > 1_000_000
    assert entry["started"] < entry["ended"] <= ended[0].began


async def test_a_worker_that_ends_is_removed_from_the_registry(store: Store, tmp_path: Path) -> None:
    async with running_worker(tmp_path) as worker:
        name = (await worker.wait_for_log("worker_ready"))["worker"]

        async def announced() -> bool:
            return name in await WorkerRegistry(store).live()

        await eventually(announced)
        tell(worker)
        assert await worker.ends() == 0
    assert name not in await WorkerRegistry(store).live()


class TestByRq:
    """`rq worker --worker-class workers.OperationWorker` with RQ's options."""

    async def test_burst_ends_when_nothing_is_left(self, store: Store, tmp_path: Path) -> None:
        let_go(tmp_path)
        records = [await create(store, kind) for kind in ("waits", "works") * 10]
        async with running_worker(tmp_path, "--burst", command=BY_RQ) as worker:
            assert await worker.ends() == 0
        for record in records:
            assert (await now(store, record)).status is OperationStatus.COMPLETED

    async def test_burst_waits_for_what_still_runs(self, store: Store, tmp_path: Path) -> None:
        record = await create(store, "waits")
        async with running_worker(tmp_path, "--burst", command=BY_RQ) as worker:
            await began(tmp_path, record)
            late = await create(store, "waits")
            await began(tmp_path, late)
            let_go(tmp_path)
            assert await worker.ends() == 0
        for each in (record, late):
            assert (await now(store, each)).status is OperationStatus.COMPLETED

    @pytest.mark.parametrize("kind", ["waits", "works"])
    async def test_max_jobs_is_how_many_are_begun(self, store: Store, tmp_path: Path, kind: str) -> None:
        let_go(tmp_path)
        records = [await create(store, kind) for _ in range(5)]
        async with running_worker(tmp_path, "--max-jobs", "3", command=BY_RQ) as worker:
            assert await worker.ends() == 0
        stages = [(await now(store, record)).stage for record in records]
        assert (stages.count(Stage.COMPLETED), stages.count(Stage.QUEUED)) == (3, 2)

    async def test_max_idle_time_counts_from_the_end_of_the_last_operation(self, store: Store, tmp_path: Path) -> None:
        record = await create(store, "waits")
        async with running_worker(tmp_path, "--max-idle-time", "1", command=BY_RQ) as worker:
            await began(tmp_path, record)
            await asyncio.sleep(2.5)  # more than the second that it may be idle
            assert worker.process.returncode is None
            let_go(tmp_path)
            assert (await final(store, record)).status is OperationStatus.COMPLETED
            assert await worker.ends() == 0

    async def test_a_worker_of_this_class_drains_on_sigterm_too(self, store: Store, tmp_path: Path) -> None:
        record = await create(store, "works")
        async with running_worker(tmp_path, command=BY_RQ) as worker:
            await began(tmp_path, record)
            tell(worker)
            await worker.wait_for_log("worker_draining")
            let_go(tmp_path)
            assert await worker.ends() == 0
        assert (await now(store, record)).status is OperationStatus.COMPLETED
