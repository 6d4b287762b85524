"""`tracker doctor`: the state of the work that it shows, `--verify` and `--repair`. `test_commands` has its checks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import typer

from tests.support.placements import (
    delayed,
    waiting_for_process,
    waiting_for_rate,
    waiting_for_slot,
    waiting_for_type,
    waiting_in_serial_queue,
    with_context,
    with_missed_ticket,
)
from tests.support.scheduling import KINDS, create, take
from tracker.cli.doctor import doctor
from tracker.cli.output import CommandFailed, Exit, OutputFormat
from tracker.maintenance.verifier import Verifier
from tracker.store.store import Store
from tracker.store.worker_registry import WorkerRegistry

ABOUT = {"host": "a", "pid": 1, "types": sorted(KINDS), "concurrency": 100, "processes": 4, "running": 3}
Told = tuple[int, str, str]
Doctor = Callable[..., Awaitable[Told]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs the command: its exit code, standard output and standard error."""
    monkeypatch.setitem(Verifier.__init__.__kwdefaults__ or {}, "recheck_after", 0.0)

    async def run(**options: Any) -> Told:
        code = 0
        try:
            await asyncio.to_thread(doctor, **options)
        except typer.Exit as end:
            code = end.exit_code
        return code, *capsys.readouterr()

    return run


async def findings(run: Doctor) -> dict[str, tuple[str, str]]:
    """Level and finding by check."""
    _, out, _ = await run(output=OutputFormat.JSON)
    return {found["check"]: (found["level"], found["found"]) for found in json.loads(out)}


async def test_workers_lanes_and_stages_are_counted(store: Store, run: Doctor) -> None:
    await WorkerRegistry(store).announce("w1", ABOUT)
    await with_missed_ticket(store)
    for make in (waiting_in_serial_queue, delayed, waiting_for_slot):
        await make(store)
    for _ in range(3):
        await create(store, priority="low")
    found = await findings(run)
    assert found["worker w1"] == (
        "ok",
        "process 1 on a: runs 3, room for 100 coroutines and 4 functions, 7 types",
    )
    await store.redis.zincrby(store.keys.workers, -30, "w1")
    assert (await findings(run))["worker w1"][0] == "warn"
    assert found["lane low"][1].startswith("3 queued, the oldest for ")
    assert found["lane high"] == ("ok", "0 queued")
    assert found["stages"][1] == (
        "2 running, 1 delayed, 3 parked "
        "(2 for their call, 1 for a limit of their type, 0 for a worker with their type, 0 to run apart from others), "
        "1 with a missing ticket"
    )


async def test_a_worker_that_cannot_fork_is_a_warning_that_names_the_limit(store: Store, run: Doctor) -> None:
    await WorkerRegistry(store).announce("w1", {**ABOUT, "fork_error": "pids.max 64, of which 63 are taken"})
    level, found = (await findings(run))["worker w1"]
    assert level == "warn"
    assert found.endswith("cannot fork: pids.max 64, of which 63 are taken")


async def test_a_worker_names_the_types_that_have_blocked_its_loop(store: Store, run: Doctor) -> None:
    await WorkerRegistry(store).announce("w1", {**ABOUT, "blocking": ["test.plain", "test.serial"]})
    level, found = (await findings(run))["worker w1"]
    assert level == "warn"
    assert found.endswith("blocked by test.plain, test.serial")


async def test_operations_that_wait_to_run_apart_are_counted(store: Store, run: Doctor) -> None:
    await waiting_for_process(store)
    await create(store, "isolated")
    await take(store, apart=0)
    assert "2 parked (0 for their call" in (await findings(run))["stages"][1]
    assert "2 to run apart from others)" in (await findings(run))["stages"][1]


async def test_a_lane_shows_how_many_tenants_take_turns(store: Store, run: Doctor) -> None:
    await create(store)
    assert (await findings(run))["lane default"][1].startswith("1 queued, the oldest for ")
    await create(store, tenant="other")
    found = (await findings(run))["lane default"][1]
    assert found.startswith("2 queued, the oldest for ")
    assert found.endswith(", of 2 tenants in turn")


async def test_types_that_no_worker_has_are_a_warning_until_one_comes(store: Store, run: Doctor) -> None:
    await waiting_for_type(store)
    await WorkerRegistry(store).announce("w1", {**ABOUT, "types": []})
    assert (await findings(run))["type test.all"] == ("warn", "1 operation for a worker that has it")
    await WorkerRegistry(store).announce("w2", ABOUT)
    assert (await findings(run))["type test.all"] == ("ok", "1 operation for a worker that has it; one is alive")


async def test_limiters_show_their_state(store: Store, run: Doctor) -> None:
    await waiting_for_slot(store)
    await waiting_for_rate(store)
    found = await findings(run)
    assert found["gate #test.all"][1].startswith("2 of at most 2 run or are about to start, 1 wait, checked again in ")
    assert found["gate #test.rated"][1].startswith("at most 1 start per 10 min, 1 wait, checked again in ")


async def test_suspended_queues_are_a_warning(store: Store, run: Doctor) -> None:
    assert "queues" not in await findings(run)
    await store.redis.set("rq:suspended", 1)
    assert (await findings(run))["queues"] == ("warn", "suspended")


async def test_verify_names_what_is_wrong_and_exits_1_and_repair_puts_it_right(store: Store, run: Doctor) -> None:
    record = await with_context(store)
    await create(store)
    await store.redis.zrem(store.keys.ticketed("default", "test"), record.key)
    fault = {
        "id": record.id,
        "key": record.key,
        "stage": "queued",
        "what": "queued, but not in this key",
        "where": store.keys.ticketed("default", "test"),
    }
    code, out, err = await run(verify=True)
    assert code == Exit.FAILED
    assert all(word in out for word in fault.values())
    assert "2 operations" in err
    assert "1 operation misplaced; use --repair to repair it" in err
    code, out, _ = await run(verify=True, output=OutputFormat.JSON)
    told = json.loads(out)
    assert (code, told["operations"], told["faults"]) == (Exit.FAILED, 2, [fault])
    code, out, err = await run(repair=True, output=OutputFormat.JSON)
    told = json.loads(out)
    assert (code, told["repaired"], told["faults"], told["left"]) == (Exit.OK, 1, [fault], [])
    assert [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")] == ["operation_repaired"]
    code, out, err = await run(verify=True)
    assert (code, out) == (Exit.OK, "")
    assert "every operation is where it belongs" in err


async def test_repair_goes_on_until_nothing_is_left(store: Store, run: Doctor) -> None:
    """Behind a record that is gone waits one that only the second round can see."""
    last = await waiting_in_serial_queue(store)
    [head] = await take(store)
    await store.redis.delete(store.keys.operation(head.key))
    code, out, _ = await run(repair=True, output=OutputFormat.JSON)
    told = json.loads(out)
    assert (code, told["left"]) == (Exit.OK, [])
    assert {fault["key"] for fault in told["faults"]} == {head.key}
    assert [record.id for record in await take(store)] == [last.id]


async def test_what_cannot_be_repaired_is_left_and_exits_1(store: Store, run: Doctor) -> None:
    record = await create(store)
    await store.redis.hset(store.keys.operation(record.key), "stage", "resting")
    code, out, err = await run(repair=True, output=OutputFormat.JSON)
    told = json.loads(out)
    assert (code, told["repaired"]) == (Exit.FAILED, 0)
    assert told["left"] == told["faults"]
    assert "operation_not_repaired" in err


@pytest.mark.usefixtures("settings")
async def test_verify_without_a_server_is_exit_3(run: Doctor) -> None:
    with pytest.raises(CommandFailed) as stop:
        await run(verify=True, redis_url="redis://127.0.0.1:1/0")
    assert stop.value.code is Exit.UNREACHABLE
