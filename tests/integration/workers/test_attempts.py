"""Attempts under real workers: ours and RQ's own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.processes import ROOT
from tests.support.records import make_record
from tests.support.waiting import eventually
from tracker.config import Settings
from tracker.domain.operation import CANCELED, OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.store.store import LEASE, Store

OURS = ("-m", "tracker.cli.main", "worker", "--processes", "1")
BY_RQ = ("-m", "rq.cli", "worker", "--worker-class", "workers.OperationWorker", "--quiet")
STOCK = ("-m", "rq.cli", "worker", "--quiet", "-j", "workers.OperationJob", "--serializer", "json", "operations")


@asynccontextmanager
async def worker(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, env={**os.environ, "RQ_REDIS_URL": os.environ["REDIS_URL"]}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def handlers(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The types of tests/handlers.py, which tell what they do in files of this directory."""
    monkeypatch.setenv("TRACKER_TYPES", "tests.support.attempt_types")
    monkeypatch.setenv("TEST_HANDLERS_DIR", str(tmp_path))
    assert settings.test_clock
    return tmp_path


@pytest.fixture
async def sweeping(store: Store) -> AsyncIterator[None]:
    async with beside(Sweeper(store, every=0.1).run()):
        yield


def finished(store: Store, record: Record) -> Callable[[], Awaitable[Record | None]]:
    async def check() -> Record | None:
        current = await store.find("test", record.id)
        return current if current.status.final else None

    return check


def appears(path: Path) -> Callable[[], Awaitable[str | None]]:
    async def check() -> str | None:
        return _whole(path)

    return check


def _whole(path: Path) -> str | None:
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else None


async def create(store: Store, kind: str, **fields: object) -> Record:
    record, _ = await store.create(make_record(type=f"#test.{kind}", **fields))
    return record


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("command", [OURS, BY_RQ, STOCK], ids=["ours", "ours by RQ", "stock"])
async def test_an_operation_runs_under_any_rq_worker(store: Store, command: tuple[str, ...]) -> None:
    plain = await create(store, "plain", members={"text": "abc"})
    coroutine = await create(store, "coroutine", members={"text": "abc", "extra": 1})
    async with worker(*command):
        done = await eventually(finished(store, plain))
        also = await eventually(finished(store, coroutine))
        await eventually(nothing_left_of_rq(store))
    assert (done.status, done.members) == (OperationStatus.COMPLETED, {"text": "abc", "backwards": "cba"})
    assert also.members == {"text": "abc", "extra": 1, "backwards": "cba"}
    assert (also.percent, also.detail, also.attempt, also.charged) == (100, "begun", 1, 0)


@pytest.mark.usefixtures("handlers")
async def test_what_rq_keeps_of_a_ticket_whose_worker_died_is_removed_in_time(store: Store, clock: Clock) -> None:
    record = await create(store, "plain", members={"text": "x"})
    async with worker(*STOCK):
        await eventually(finished(store, record))
        await eventually(nothing_left_of_rq(store))  # or its horse, which outlives it, would clean up later
    await store.redis.hset(store.keys.job(f"{record.key}-{record.ticket}"), "status", "queued")
    await store.redis.lpush(f"{store.keys.queue()}:intermediate", f"{record.key}-{record.ticket}")
    await clock.advance(601)
    swept = await Sweeper(store).sweep()
    assert swept.litter == 1
    assert await nothing_left_of_rq(store)()
    assert not await store.redis.exists(f"{store.keys.queue()}:intermediate", store.keys.litter)


def nothing_left_of_rq(store: Store) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        names = [name async for name in store.redis.scan_iter("rq:job:*")]
        names += [name async for name in store.redis.scan_iter("rq:results:*")]
        return not names and not await store.redis.zcard("rq:failed:operations")

    return check


@pytest.mark.usefixtures("handlers", "sweeping")
@pytest.mark.parametrize(
    ("kind", "code", "subcode", "attempts"),
    [
        ("rejecting", 400, 7, 1),
        ("raising", 500, 1, 2),
        ("retrying", 500, 1, 2),
        ("dying", 503, 1, 2),
        ("nonsense", 500, 1, 2),
        ("oversized", 500, 1, 2),
    ],
)
async def test_every_way_to_fail_has_its_result(
    store: Store, kind: str, code: int, subcode: int, attempts: int
) -> None:
    record = await create(store, kind, policy=Policy(attempts=2, backoff_first=0.01))
    async with worker(*OURS):
        ended = await eventually(finished(store, record))
    assert ended.status is OperationStatus.FAILED
    assert ended.result_info is not None
    assert (ended.result_info.code, ended.result_info.subcode, ended.attempt) == (code, subcode, attempts)
    assert "secret" not in ended.result_info.message
    assert ended.charged == (0 if kind == "rejecting" else 2)
    if kind in {"rejecting", "dying", "nonsense", "oversized"}:  # plain functions, each with a process to itself
        memory = [entry["peak_rss"] for entry in await store.history(record.key)]
        assert len(memory) == attempts
        assert min(memory) > 1_000_000


@pytest.mark.parametrize("kind", ["sleeping", "blocking"])
async def test_a_running_handler_is_stopped_by_a_cancel(store: Store, handlers: Path, kind: str) -> None:
    from tracker.domain import lifecycle  # noqa: PLC0415 - beside its one use

    record = await create(store, kind)
    async with worker(*OURS):
        await eventually(appears(handlers / "started"))
        await store.apply(lifecycle.request_cancel(await store.find("test", record.id)))
        ended = await eventually(finished(store, record))
        assert (ended.canceled, ended.result_info) == (True, CANCELED)
        assert await eventually(appears(handlers / "stopped"))


async def test_a_handler_that_overruns_its_time_is_killed_and_charged(store: Store, handlers: Path) -> None:
    record = await create(store, "blocking", policy=Policy(attempts=1, run_within=3.0))
    async with worker(*OURS):
        ended = await eventually(finished(store, record))
    assert ended.result_info is not None
    assert (ended.result_info.code, ended.result_info.subcode) == (408, 1)
    assert _whole(handlers / "started")


@pytest.mark.usefixtures("sweeping")
async def test_a_handler_that_holds_the_interpreter_keeps_its_lease(store: Store, handlers: Path) -> None:
    record = await create(store, "deaf")
    async with worker(*OURS):
        await eventually(appears(handlers / "started"))
        before = await store.redis.zscore(store.keys.leases, record.key)

        async def renewed() -> bool:
            now = await store.redis.zscore(store.keys.leases, record.key)
            return now is not None and before is not None and now > before

        await eventually(renewed)
        assert (await store.find("test", record.id)).attempt == 1


@pytest.mark.usefixtures("sweeping")
async def test_a_dead_workers_operation_runs_again_when_its_lease_is_over(
    store: Store, handlers: Path, clock: Clock
) -> None:
    record = await create(store, "once")
    async with worker(*OURS) as process:
        await eventually(appears(handlers / "started"))
        process.kill()
        await process.wait()
    await clock.advance(LEASE + 1)
    async with worker(*OURS):
        ended = await eventually(finished(store, record))
    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 2, 0)
    [lost] = await store.history(record.key)
    assert (lost["attempt"], lost["outcome"], lost["uncharged"]) == (1, "lose", True)


@pytest.mark.quiet_machine
@pytest.mark.usefixtures("sweeping")
async def test_a_dead_workers_operation_runs_again_within_fifteen_seconds(store: Store, handlers: Path) -> None:
    record = await create(store, "once")
    async with worker(*OURS) as process:
        await eventually(appears(handlers / "started"))
        process.kill()
        await process.wait()
    async with worker(*OURS), asyncio.timeout(15):
        await eventually(finished(store, record))


@pytest.mark.usefixtures("sweeping")
async def test_a_killed_host_costs_one_attempt_and_the_operation_runs_again(store: Store, handlers: Path) -> None:
    record = await create(store, "once")
    async with worker(*OURS):
        os.kill(int(await eventually(appears(handlers / "started"))), signal.SIGKILL)
        ended = await eventually(finished(store, record))
    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 2, 1)
    [died] = await store.history(record.key)
    assert (died["outcome"], died["signal"]) == ("retry", -signal.SIGKILL)
    assert died["peak_rss"] > 1_000_000
    assert "out of memory" in died["hint"]
    assert died["started"] < died["ended"]


@pytest.mark.usefixtures("handlers", "sweeping")
async def test_an_operation_whose_ticket_was_lost_gets_another(store: Store) -> None:
    record = await create(store, "plain", members={"text": "x"})
    assert await store.redis.lpop(store.keys.queue()) is not None
    async with worker(*OURS):
        ended = await eventually(finished(store, record))
    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
    assert ended.ticket > record.ticket


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("job_id", [f"{'0' * 32}-1", "{known}-99"])
async def test_a_refused_ticket_leaves_no_zombie(store: Store, job_id: str) -> None:
    """Under `rq worker --worker-class rq.SimpleWorker` each would stay for ever."""
    record = await create(store, "plain")
    program = (
        "import os\n"
        "from workers.job import run_ticket\n"
        f"run_ticket({job_id.format(known=record.key)!r}, worker='w')\n"
        "try:\n"
        "    os.waitpid(-1, 0)\n"
        "except ChildProcessError:\n"
        "    print('none')\n"
    )
    run = asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    done = await run
    assert done.stdout == "none\n"
    assert "ticket_refused" in done.stderr
    assert (await store.read([record.key]))[0].stage is Stage.QUEUED
