"""Cancels, deadlines and blocked loops under a real worker."""

import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.handler_files import began, exists, let_go, text_of
from tests.support.processes import alive, gone
from tests.support.worker_processes import Worker, create, final, now, running_worker
from tracker.domain import lifecycle
from tracker.domain.operation import CANCELED, SECOND, OperationStatus
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Refused
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.store.store import Store

CANCELS = 50
WITHIN = 0.1


@pytest.fixture
async def worker(store: Store, tmp_path: Path) -> AsyncIterator[Worker]:
    assert store.address
    async with running_worker(tmp_path) as running:
        yield running


async def ask(store: Store, record: Record, reason: str = "", *, by: str = "") -> Record:
    """Cancel it, wherever it is by now."""
    while True:
        with suppress(Refused):
            return await store.apply(lifecycle.request_cancel(await now(store, record), reason, by=by))


@pytest.mark.quiet_machine
@pytest.mark.usefixtures("worker")
async def test_a_coroutine_is_cancelled_within_a_tenth_of_a_second_of_the_request(store: Store, tmp_path: Path) -> None:
    records = [await create(store, "waits") for _ in range(CANCELS)]
    for record in records:
        await began(tmp_path, record)
    took = []
    for record in records:
        asked = time.monotonic()
        await ask(store, record)
        took.append(float(await text_of(tmp_path / f"{record.id}.stopped")) - asked)
    for record in records:
        assert (await final(store, record)).canceled
    took.sort()
    median, nine_of_ten, worst = (took[int(CANCELS * part)] for part in (0.5, 0.9, 0.99))
    print(f"{CANCELS} cancels: p50 {1000 * median:.1f} ms, p99 {1000 * worst:.1f} ms")
    assert nine_of_ten < WITHIN


@pytest.mark.usefixtures("worker")
async def test_who_canceled_when_and_why_is_in_the_record_and_the_attempt_in_its_history(
    store: Store, tmp_path: Path
) -> None:
    record = await create(store, "waits")
    await began(tmp_path, record)
    asked = await ask(store, record, "no longer needed", by="somebody")
    ended = await final(store, record)
    assert (ended.status, ended.canceled, ended.attempt, ended.charged) == (OperationStatus.FAILED, True, 1, 0)
    assert (ended.cancel_by, ended.cancel_reason) == ("somebody", "no longer needed")
    assert ended.cancel_requested == asked.cancel_requested > record.created
    assert ended.result_info is not None
    assert (ended.result_info.code, ended.result_info.subcode) == (CANCELED.code, CANCELED.subcode)
    [entry] = await store.history(record.key)
    assert (entry["attempt"], entry["outcome"], entry["worker"]) == (1, "cancel", ended.worker)
    assert asked.started <= entry["started"] <= asked.cancel_requested <= entry["ended"]


@pytest.mark.usefixtures("worker")
async def test_a_function_gets_an_exception_where_it_is(store: Store, tmp_path: Path) -> None:
    record = await create(store, "works")
    host = await began(tmp_path, record)
    await ask(store, record)
    assert await text_of(tmp_path / f"{record.id}.stopped") == "HandlerStopped"
    assert (await final(store, record)).canceled
    again = await create(store, "works")
    assert await began(tmp_path, again) == host, "and its process goes on"
    let_go(tmp_path, again)
    assert (await final(store, again)).status is OperationStatus.COMPLETED


@pytest.mark.usefixtures("worker")
async def test_a_function_that_hears_nothing_is_killed_after_its_grace(store: Store, tmp_path: Path) -> None:
    record = await create(store, "deaf", grace=0.3)
    host = await began(tmp_path, record)
    await ask(store, record)
    assert (await final(store, record)).canceled
    await gone(host)
    [entry] = await store.history(record.key)
    assert (entry["outcome"], entry["signal"]) == ("cancel", -signal.SIGKILL)


@pytest.mark.usefixtures("worker")
async def test_a_handler_that_ends_well_in_spite_of_a_cancel_wins(store: Store, tmp_path: Path) -> None:
    record = await create(store, "insists")
    await began(tmp_path, record)
    await ask(store, record)
    ended = await final(store, record)
    assert (ended.status, ended.canceled) == (OperationStatus.COMPLETED, False)
    assert ended.cancel_requested
    assert ended.result_info is not None
    assert ended.result_info.subcode == 4


async def test_what_is_queued_never_starts(store: Store, tmp_path: Path) -> None:
    record, other = [await create(store, "waits") for _ in range(2)]
    assert (await ask(store, record)).stage is Stage.FAILED
    let_go(tmp_path)
    async with running_worker(tmp_path):
        await final(store, other)
    after = await now(store, record)
    assert (after.attempt, after.canceled) == (0, True)
    assert not exists(tmp_path / f"{record.id}.began")


async def test_what_waits_in_a_host_behind_another_is_taken_back_and_never_starts(store: Store, tmp_path: Path) -> None:
    async with running_worker(tmp_path, "--processes", "1"):
        let_go(tmp_path)
        for record in [await create(store, "works") for _ in range(100)]:
            await final(store, record)  # so fast that several are taken at once
        (tmp_path / "all.go").unlink()
        records = [await create(store, "works") for _ in range(4)]
        first, *rest = records
        await began(tmp_path, first)
        for record in rest:
            await ask(store, record)
        for record in rest:
            assert (await final(store, record)).canceled
            assert not exists(tmp_path / f"{record.id}.began")
        let_go(tmp_path)
        assert (await final(store, first)).status is OperationStatus.COMPLETED


async def test_a_coroutine_that_outlives_its_deadline_ends_without_it_and_the_others_end_well(
    store: Store, worker: Worker, tmp_path: Path
) -> None:
    other = await create(store, "waits")
    clinging = await create(store, "clings", attempts=1, run_within=3.0, grace=0.5)
    host = await began(tmp_path, clinging)
    assert await began(tmp_path, other) == host
    ended = await final(store, clinging)
    assert ended.result_info is not None
    assert (ended.result_info.code, ended.result_info.subcode, ended.charged) == (408, 1, 1)
    assert (ended.completed - ended.began) / SECOND >= 3.5, "the deadline and the grace are over"
    assert (await worker.wait_for_log("handler_stuck"))["pid"] == host
    assert (await worker.wait_for_log("host_retired"))["reason"] == "stuck"
    later = await create(store, "waits")
    assert await began(tmp_path, later) != host
    assert alive(host)
    let_go(tmp_path, other, later)
    for record in (other, later):
        assert (await final(store, record)).status is OperationStatus.COMPLETED
    await gone(host)
    assert not exists(tmp_path / f"{clinging.id}.let_go")


async def test_a_blocked_loop_is_logged_with_its_stack_and_costs_no_lease(store: Store, tmp_path: Path) -> None:
    """For longer than a lease."""
    async with running_worker(tmp_path, TRACKER_BLOCK_LIMIT="0") as worker, beside(Sweeper(store, every=0.2).run()):
        neighbour, record = await create(store, "waits"), await create(store, "blocks", members={"seconds": 12.0})
        await began(tmp_path, neighbour)
        await began(tmp_path, record)
        let_go(tmp_path, neighbour)
        told_of = await worker.wait_for_log("loop_blocked")
        assert {record.id, neighbour.id} >= set(told_of["operations"]) >= {record.id}
        assert told_of["by"] == record.id
        assert "time.sleep(operation.seconds)" in told_of["stack"]
        for each in (record, neighbour):
            ended = await final(store, each)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
        assert len(worker.logged("loop_blocked")) == 1


async def test_an_unreadable_control_message_stops_nothing(store: Store, worker: Worker, tmp_path: Path) -> None:
    record = await create(store, "waits")
    await began(tmp_path, record)
    channel = store.keys.control((await now(store, record)).worker)
    for text in ("", "cancel", "cancel x y", "cancel a b c d", f"cancel {record.key} 7", "dance a 1", "\u2603"):
        await store.redis.publish(channel, text)
    await worker.wait_for_log("order_unreadable")
    await ask(store, record)
    assert (await final(store, record)).canceled


@pytest.mark.usefixtures("worker")
async def test_a_cancel_that_was_not_received_comes_with_the_next_heartbeat(store: Store, tmp_path: Path) -> None:
    record = await create(store, "waits")
    await began(tmp_path, record)
    await store.redis.hset(store.keys.operation(record.key), "cancel_requested", str(record.created))
    assert (await final(store, record)).canceled
