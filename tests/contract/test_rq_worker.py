"""RQ's keys of our worker, field by field as of RQ's own worker, and the commands that RQ's tools send to it."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from rq import Queue, SimpleWorker, Worker
from rq.command import (
    send_command,
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.suspension import resume, suspend

from tests.support.handler_files import began, exists, let_go
from tests.support.processes import ROOT
from tests.support.waiting import eventually
from tests.support.worker_processes import Worker as OurWorker
from tests.support.worker_processes import create, final, now, reaches, running_worker
from tracker.domain import lifecycle
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.store.store import Store

FORMS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "date"),
    (re.compile(r"\d+"), "whole number"),
    (re.compile(r"\d+\.\d+(e-\d+)?"), "number"),
)


@pytest.fixture
def blocking(redis_url: str) -> Iterator[Any]:
    with BlockingRedis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def worker(store: Store, tmp_path: Path) -> AsyncIterator[OurWorker]:
    async with running_worker(tmp_path) as running:
        await eventually(announced(store))
        yield running


def announced(store: Store) -> Any:
    async def check() -> bool:
        return bool(await store.redis.smembers("rq:workers"))

    return check


def name_of(blocking: Any) -> str:
    [key] = blocking.smembers("rq:workers")
    return str(key.decode().removeprefix("rq:worker:"))


def job_of(record: Record) -> str:
    return f"{record.key}-{record.ticket}"


def form(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """Of which form each field is; texts that are the same for every worker of a machine are themselves."""
    found = {}
    for name, value in fields.items():
        text = value.decode()
        found[name.decode()] = next((word for pattern, word in FORMS if pattern.fullmatch(text)), text)
    return found


def stock_worker(blocking: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The hash of RQ's own worker after a success and a failure, while it lives and when it is gone."""
    queues = [Queue(name, connection=blocking) for name in ("operations.high", "operations", "operations.low")]
    for number in (1, -1):
        queues[1].enqueue("math.sqrt", number)
    stock = SimpleWorker(queues, connection=blocking)
    alive: dict[str, str] = {}
    leave: Callable[[], None] = stock.register_death

    def note_and_leave() -> None:
        alive.update(form(blocking.hgetall(stock.key)))
        stock._shutdown_requested_date = stock.birth_date
        stock.set_shutdown_requested_date()  # type: ignore[no-untyped-call] # as when it is told to stop
        leave()

    stock.register_death = note_and_leave  # type: ignore[method-assign]
    stock.work(burst=True, logging_level="ERROR")
    gone = form(blocking.hgetall(stock.key))
    assert 0 < blocking.ttl(stock.key) <= 60
    return alive, gone


@pytest.fixture
def _quiet_stock_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the signals of the test's own process."""
    monkeypatch.setattr(SimpleWorker, "_install_signal_handlers", lambda _: None)


@pytest.mark.usefixtures("_quiet_stock_worker")
async def test_our_workers_hash_has_the_fields_of_a_stock_workers_in_their_forms(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    failing = await create(store, "clings", attempts=1, run_within=0.1, grace=0.1)
    await final(store, failing)
    let_go(tmp_path)
    await final(store, await create(store, "waits"))
    key = f"rq:worker:{name_of(blocking)}"

    async def counted() -> bool:
        return bool(blocking.hget(key, "successful_job_count")) and bool(blocking.hget(key, "failed_job_count"))

    await eventually(counted)
    ours = form(blocking.hgetall(key))
    assert 0 < blocking.ttl(key) <= 480
    send_shutdown_command(blocking, name_of(blocking))
    assert await worker.ends() == 0
    ours_gone = form(blocking.hgetall(key))
    assert 0 < blocking.ttl(key) <= 60
    assert not blocking.exists("rq:workers", "rq:workers:operations", f"{key}:executions")

    theirs, theirs_gone = stock_worker(blocking)
    assert without_state(ours) == without_state(theirs)
    assert {ours["state"], theirs["state"]} <= {"idle", "busy"}
    assert without_state(ours_gone) == without_state(theirs_gone)


def without_state(fields: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name != "state"}


async def test_rq_sees_the_worker_its_executions_and_its_counts(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    records = [await create(store, kind) for kind in ("waits", "works")]
    for record in records:
        await began(tmp_path, record)
    [seen] = Worker.all(connection=blocking)
    assert seen.name == (await worker.wait_for_log("worker_ready"))["worker"]
    assert seen.pid == worker.process.pid
    assert seen.queue_names() == ["operations.high", "operations", "operations.low"]
    assert {execution.job_id for execution in seen.get_current_executions()} == {job_of(record) for record in records}
    assert Worker.count(queue=Queue("operations", connection=blocking)) == 1

    waiting = await create(store, "works")
    shown = await info()
    assert re.search(r"operations .*1, 2 executing", shown), shown
    assert re.search(rf"{re.escape(seen.name)} .*(busy|idle)", shown), shown
    assert "1 workers" in shown
    let_go(tmp_path)
    for record in (*records, waiting):
        assert (await final(store, record)).status is OperationStatus.COMPLETED

    async def counted() -> bool:
        [now_seen] = Worker.all(connection=blocking)
        return (now_seen.successful_job_count, now_seen.failed_job_count) == (3, 0)

    await eventually(counted)
    [seen] = Worker.all(connection=blocking)
    assert seen.total_working_time > 0
    assert seen.get_current_executions() == []


async def info() -> str:
    words = (sys.executable, "-m", "rq.cli", "info", "--queue-class", "workers.OperationQueue")
    at = ("--url", os.environ["REDIS_URL"])
    return await asyncio.to_thread(subprocess.check_output, (*words, *at), text=True, cwd=ROOT)


async def test_a_suspended_worker_claims_nothing_and_goes_on_with_the_rest(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    running = await create(store, "waits")
    await began(tmp_path, running)
    suspend(blocking)
    queued = await create(store, "waits")
    await worker.wait_for_log("worker_suspended")
    let_go(tmp_path)
    assert (await final(store, running)).status is OperationStatus.COMPLETED, "outcomes are written"
    assert ((await now(store, queued)).stage, (await now(store, queued)).attempt) == (Stage.QUEUED, 0)
    resume(blocking)
    assert (await final(store, queued)).status is OperationStatus.COMPLETED
    await worker.wait_for_log("worker_resumed")


async def test_a_suspended_worker_renews_leases_and_cancels(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    running = await create(store, "waits")
    await began(tmp_path, running)
    suspend(blocking)
    await worker.wait_for_log("worker_suspended")
    before = await store.redis.zscore(store.keys.leases, running.key)

    async def renewed() -> bool:
        return (await store.redis.zscore(store.keys.leases, running.key)) != before

    await eventually(renewed)
    await store.apply(lifecycle.request_cancel(await now(store, running)))
    assert (await final(store, running)).canceled
    resume(blocking)


async def test_the_shutdown_command_drains(store: Store, blocking: Any, worker: OurWorker, tmp_path: Path) -> None:
    record = await create(store, "waits")
    await began(tmp_path, record)
    send_shutdown_command(blocking, name_of(blocking))
    await worker.wait_for_log("worker_draining")
    let_go(tmp_path)
    assert await worker.ends() == 0
    assert (await now(store, record)).status is OperationStatus.COMPLETED


@pytest.mark.parametrize("command", ["stop-job", "stop-execution"])
async def test_a_stop_command_cancels_exactly_that_operation(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path, command: str
) -> None:
    """RQ's own worker looks at the first of its executions only."""
    records = [await create(store, "waits") for _ in range(3)]
    for record in records:
        await began(tmp_path, record)
    second = records[1]
    if command == "stop-job":
        send_stop_job_command(blocking, job_of(second), serializer="json")
    else:
        send_stop_execution_command(blocking, job_of(second), second.key)
    ended = await final(store, second)
    assert (ended.canceled, ended.cancel_by, ended.cancel_reason) == (True, "rq", "rq")
    assert worker.process.returncode is None
    let_go(tmp_path)
    for record in (records[0], records[2]):
        assert (await final(store, record)).status is OperationStatus.COMPLETED


async def test_a_stop_of_an_earlier_attempts_job_stops_nothing(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    first = await create(store, "waits")
    await began(tmp_path, first)
    running = await store.apply(lifecycle.hand_back(await now(store, first)))
    again = await eventually(reaches(store, running, Stage.RUNNING))
    assert again.ticket > first.ticket
    send_command(blocking, name_of(blocking), "stop-job", job_id=job_of(first))
    other = await create(store, "waits")
    await began(tmp_path, other)
    send_command(blocking, name_of(blocking), "stop-job", job_id=job_of(other))
    assert (await final(store, other)).canceled
    let_go(tmp_path)
    assert (await final(store, again)).status is OperationStatus.COMPLETED
    assert worker.process.returncode is None


async def test_kill_horse_is_refused_and_logged(store: Store, blocking: Any, worker: OurWorker, tmp_path: Path) -> None:
    record = await create(store, "works")
    await began(tmp_path, record)
    send_kill_horse_command(blocking, name_of(blocking))
    await worker.wait_for_log("kill_horse_refused")
    let_go(tmp_path)
    assert (await final(store, record)).status is OperationStatus.COMPLETED
    assert not exists(tmp_path / f"{record.id}.stopped")


async def test_commands_that_nobody_understands_stop_nothing(
    store: Store, blocking: Any, worker: OurWorker, tmp_path: Path
) -> None:
    name = name_of(blocking)
    for text in ("", "[]", "7", "null", '"stop"', "{}", '{"command": "stop-job"}', "\xff"):
        blocking.publish(f"rq:pubsub:{name}", text)
    strange: list[Any] = [7, None, [], "x", f"{'0' * 32}-1", "../../etc"]
    for job_id in strange:
        send_command(blocking, name, "stop-job", job_id=job_id)
    send_command(blocking, name, "dance")
    assert (await worker.wait_for_log("rq_command_unknown"))["command"] == "dance"
    record = await create(store, "waits")
    await began(tmp_path, record)
    send_stop_job_command(blocking, job_of(record), serializer="json")
    assert (await final(store, record)).canceled
    assert not worker.logged("background_task_died")


async def test_a_worker_that_rq_forgot_is_registered_again(store: Store, blocking: Any, worker: OurWorker) -> None:
    name = name_of(blocking)
    blocking.delete(f"rq:worker:{name}", "rq:workers", "rq:workers:operations")
    await eventually(announced(store))
    [seen] = Worker.all(connection=blocking)
    assert (seen.name, seen.pid) == (name, worker.process.pid)
