"""What attempts promise under rare conditions: lost answers, odd output, tickets that are none."""

import asyncio
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from tests.support.clock import Clock
from tests.support.executors import create, running_engine
from tests.support.records import make_record
from tests.support.waiting import eventually
from tracker import Operation, Retry
from tracker.config import Settings
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.errors import Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.store.script_replies import ClaimReply
from tracker.store.store import Store
from workers import job
from workers.completer import Completer
from workers.completion import Completion
from workers.fetcher import Fetcher
from workers.fork_server import ForkServer
from workers.handler_outcome import outcome_of_return, with_members
from workers.outcome import Raised
from workers.pool import PoolSize
from workers.spool import Spool

ROOT = Path(__file__).parents[3]
BAD_NAME = b"caf\xe9.wav"


class Named(Operation, type="#review.named"):
    pass


class Unlucky(Operation, type="#review.unlucky"):
    pass


class Measure(Operation, type="#review.measure"):
    value: float | None = Field(None, json_schema_extra={"readOnly": True})


class Quick(Operation, type="#review.quick"):
    pass


async def named(_operation: Named, context: Any) -> None:
    await context.progress(50, os.fsdecode(BAD_NAME))


async def unlucky(_operation: Unlucky, _context: Any) -> None:
    raise Retry(os.fsdecode(BAD_NAME))


def measure(operation: Measure, _context: Any) -> None:
    operation.value = math.nan


def quick(_operation: Quick, _context: Any) -> None:
    pass


@pytest.fixture
def types() -> TypeRegistry:
    types = TypeRegistry()
    for model, handler in ((Named, named), (Unlucky, unlucky), (Measure, measure), (Quick, quick)):
        types.add(OperationType(model.odata_type, model, handler))
    return types


@pytest.fixture
def fork_server(types: TypeRegistry) -> ForkServer:
    return ForkServer.fork(types)


async def attended(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, record: Record
) -> Record:
    """The record after an attempt under RQ's own worker."""
    work = job._claim_and_run(settings, types, fork_server, f"{record.key}-{record.ticket}", worker="w")
    await asyncio.wait_for(work, 20)
    return (await store.read([record.key]))[0]


def test_a_result_member_that_is_not_json_is_the_handlers_failure(types: TypeRegistry) -> None:
    operation = Measure()
    operation.value = math.nan
    outcome = with_members(types["review.measure"], operation, outcome_of_return(None))
    assert isinstance(outcome, Raised), "the API would answer the bare word NaN"


@pytest.mark.parametrize(
    ("kind", "stage"), [("named", Stage.COMPLETED), ("unlucky", Stage.DELAYED), ("measure", Stage.FAILED)]
)
async def test_what_no_record_can_hold_does_not_cost_the_outcome(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, kind: str, stage: Stage
) -> None:
    """A file name that is no UTF-8, or a number that is none."""
    attempts = 1 if stage is Stage.FAILED else 2
    record, _ = await store.create(make_record(type=f"#review.{kind}", policy=Policy(attempts=attempts)))
    after = await attended(store, types, fork_server, settings, record)
    assert after.stage is stage
    if stage is Stage.COMPLETED:
        assert after.detail == "caf?.wav"


async def test_a_claim_whose_answer_was_lost_is_asked_again(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lease already: dropping it charges an attempt that never ran."""
    real, lost = Store.claim_ticket, 0

    async def lossy(*args: Any, **kwargs: Any) -> ClaimReply:
        nonlocal lost
        claims = await real(*args, **kwargs)
        lost += 1
        if lost == 1:
            raise Unavailable("the answer was lost")
        return claims

    monkeypatch.setattr(Store, "claim_ticket", lossy)
    record, _ = await store.create(make_record(type="#review.quick", policy=Policy(attempts=1)))
    after = await attended(store, types, fork_server, settings, record)
    assert (after.stage, after.attempt, after.charged, lost) == (Stage.COMPLETED, 1, 0, 2)


async def test_a_batch_whose_answer_was_lost_is_asked_for_again(
    store: Store, types: TypeRegistry, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second answer is lost; each operation is begun once, at its first attempt."""
    real, asked = store.claim, 0

    async def lossy(*args: Any, **kwargs: Any) -> ClaimReply:
        nonlocal asked
        claims = await real(*args, **kwargs)
        asked += 1
        if asked % 2:
            raise Unavailable("the answer was lost")
        return claims

    monkeypatch.setattr(store, "claim", lossy)
    records = [(await store.create(make_record(type="#review.quick", policy=Policy(attempts=1))))[0] for _ in range(40)]
    async with running_engine(fork_server, types, PoolSize(0, 3)) as (executor, endings):
        completer = Completer(store, Spool(None), worker="w")

        def end(ending: Completion) -> None:
            endings.put(ending)
            completer.add(ending)

        executor._on_completion = end
        fetcher = Fetcher(store, executor, worker="w", on_nothing_claimed=lambda: None, max_operations=None)
        async with beside(fetcher.run(), completer.run()):

            async def all_done() -> bool:
                stages = {record.stage for record in await store.read(record.key for record in records)}
                return stages == {Stage.COMPLETED}

            await eventually(all_done)
    after = await store.read(record.key for record in records)
    assert {(record.attempt, record.charged) for record in after} == {(1, 0)}
    assert fetcher.claimed == 40


async def test_a_worker_of_the_same_name_does_not_take_over_what_a_dead_one_had_claimed(
    store: Store, types: TypeRegistry, fork_server: ForkServer, clock: Clock
) -> None:
    """`rq worker --name`: the dead one may only seem dead, and the fence could not tell their outcomes apart."""
    record, _ = await store.create(make_record(type="#review.quick"))
    async with running_engine(fork_server, types, PoolSize(0, 1)) as (executor, endings):
        first = Fetcher(store, executor, worker="same", on_nothing_claimed=lambda: None, max_operations=None)
        asked = first._send_claim(first._room())
        assert asked is not None
        claimed = await asked
        assert [started.key for started in claimed.started] == [record.key]

        second = Fetcher(store, executor, worker="same", on_nothing_claimed=lambda: None, max_operations=None)
        async with beside(second.run()):
            await clock.advance(11)
            assert (await Sweeper(store).sweep()).lost == 1
            ending = (await endings.of(record)).record
    assert (ending.attempt, ending.charged) == (2, 1)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("job_id", [f"{'0' * 32}-1", "{known}-99"])
async def test_a_refused_ticket_leaves_no_zombie(store: Store, job_id: str) -> None:
    """Under `rq worker --worker-class rq.SimpleWorker` each would stay for ever."""
    record = await create(store, "waits")
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


async def test_a_host_that_is_gone_is_never_signalled(fork_server: ForkServer, types: TypeRegistry) -> None:
    """Its pid may be another process's by then: an outcome can wait for Redis as long as it takes."""
    asked: list[Any] = []
    async with running_engine(fork_server, types, PoolSize(0, 1)) as (executor, endings):
        record = make_record(type="#review.quick", stage=Stage.RUNNING, attempt=1)
        executor.begin(record)
        host = executor.running[record.key, 1].host
        await endings.of(record)
        executor.pool.retire(host, "test")
        await asyncio.wait_for(asyncio.shield(host.death), 10)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fork_server, "_request", asked.append)
            host.kill()
            host.stop(1)
    assert not asked
