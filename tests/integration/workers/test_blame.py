"""Who is charged when a process dies: nobody who ran together with others, and who runs apart from then on."""

from pathlib import Path

import pytest

from tests.support.executors import Completions, registry, running_executor, running_record
from tests.support.handler_files import began, let_go
from tests.support.processes import alive, gone
from tests.support.waiting import eventually
from tracker.domain.change import Change
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage, Transition
from workers import attempt as attempts
from workers import pool
from workers.attempt import StopReason
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.outcome import Succeeded
from workers.pool import PoolSize

TYPES = ("bursts", "clings", "deaf", "ends", "waits", "works")
SHORT = 0.001
"""Seconds that functions take, so short that a host gets several at once."""
AN_HOUR = 3600.0


async def change_of(completions: Completions, record: Record) -> Change:
    change = (await completions.of(record)).change
    assert change is not None
    return change


def is_suspected(change: Change) -> bool:
    """Whether the change is that of a death that charges nobody."""
    assert (change.transition, change.stage) == (Transition.HAND_BACK, Stage.DELAYED)
    return (change.fields["suspected"], change.fields["apart"], "charged" in change.fields) == (1, "process", False)


def apart(record: Record) -> Record:
    return record._replace(apart=Apart.PROCESS)


async def has_all_room(executor: Executor, size: PoolSize) -> None:
    async def check() -> bool:
        room = executor.pool.room()
        return room.coroutines == size.concurrency and room.apart == size.apart and room.functions >= size.processes

    await eventually(check)


@pytest.mark.parametrize("how", ["segfault", "exit", "callback", "out of memory"])
async def test_a_coroutine_that_ends_its_process_charges_neither_its_neighbours_nor_itself(
    fork_server: ForkServer, directory: Path, how: str
) -> None:
    poison = running_record("ends")._replace(members={"how": how})
    neighbours = [running_record("waits") for _ in range(3)]
    async with running_executor(fork_server, registry("ends", "waits"), PoolSize(10, 0)) as (executor, completions):
        for record in (*neighbours, poison):
            executor.begin(record)
        for record in neighbours:
            await began(directory, record)
        let_go(directory, poison)
        for record in (*neighbours, poison):
            change = await change_of(completions, record)
            assert is_suspected(change)
            assert change.entry is not None
            assert change.entry["uncharged"] is True
            assert change.entry["signal"] != 0


@pytest.mark.parametrize("how", ["segfault", "exit", "callback", "out of memory"])
async def test_who_dies_apart_is_charged_and_nobody_else_is_harmed(
    fork_server: ForkServer, directory: Path, how: str
) -> None:
    poison = apart(running_record("ends", attempts=1)._replace(members={"how": how}))
    neighbours, innocent = [running_record("waits") for _ in range(3)], apart(running_record("waits"))
    size = PoolSize(10, 0, apart=2)
    async with running_executor(fork_server, registry("ends", "waits"), size) as (executor, completions):
        for record in (*neighbours, innocent, poison):
            executor.begin(record)
        pids = {await began(directory, record) for record in neighbours}
        own = await began(directory, innocent)
        assert len(pids) == 1
        assert own not in pids
        let_go(directory, poison)
        died = await change_of(completions, poison)
        assert (died.stage, died.fields["charged"]) == (Stage.FAILED, 1)
        assert died.fields["result_info"].message.startswith("The operation ended its process (")
        assert "memory peaked at" in died.fields["result_info"].message
        assert all(map(alive, (*pids, own)))
        let_go(directory)
        for record in (*neighbours, innocent):
            assert isinstance((await completions.of(record)).outcome, Succeeded)
        await gone(own)
        await has_all_room(executor, size)


async def test_a_process_runs_one_attempt_apart_and_never_another(fork_server: ForkServer, directory: Path) -> None:
    let_go(directory)
    records = [apart(running_record(kind)) for kind in ("waits", "works", "waits", "works")]
    size = PoolSize(1, 1, apart=4)
    async with running_executor(fork_server, registry("waits", "works"), size) as (executor, completions):
        for record in records:
            executor.begin(record)
        for record in records:
            assert isinstance((await completions.of(record)).outcome, Succeeded)
        await has_all_room(executor, size)
    assert len({await began(directory, record) for record in records}) == len(records)


async def test_a_coroutine_that_dies_as_the_first_and_only_one_of_its_process_is_charged(
    fork_server: ForkServer, directory: Path
) -> None:
    let_go(directory)
    poison = running_record("ends")._replace(members={"how": "exit"})
    async with running_executor(fork_server, registry("ends"), PoolSize(10, 0)) as (executor, completions):
        executor.begin(poison)
        change = await change_of(completions, poison)
    assert (change.transition, change.fields["charged"], change.fields["apart"]) == (Transition.RETRY, 1, "process")


async def test_a_function_that_dies_is_charged_only_if_no_other_ran_in_its_process_before(
    fork_server: ForkServer, directory: Path
) -> None:
    let_go(directory)
    first, second, third = (running_record(kind) for kind in ("works", "bursts", "bursts"))
    async with running_executor(fork_server, registry("works", "bursts"), PoolSize(0, 1)) as (executor, completions):
        executor.begin(first)
        await completions.of(first)
        executor.begin(second)
        assert is_suspected(await change_of(completions, second))
        assert await began(directory, first) == await began(directory, second)
        await has_all_room(executor, PoolSize(0, 1))
        executor.begin(third)
        assert (await change_of(completions, third)).fields["charged"] == 1


async def test_functions_that_wait_behind_one_that_dies_are_no_suspects(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", AN_HOUR)
    poison, *behind = (running_record(kind) for kind in ("bursts", "works", "works"))
    async with running_executor(fork_server, registry("bursts", "works"), PoolSize(0, 1)) as (executor, completions):
        executor.pool._function_seconds = SHORT
        for record in (poison, *behind):
            executor.begin(record)
        await began(directory, poison)
        let_go(directory, poison)
        assert (await change_of(completions, poison)).fields["charged"] == 1
        for record in behind:
            change = await change_of(completions, record)
            assert (change.transition, change.stage) == (Transition.HAND_BACK, Stage.QUEUED)
            assert "suspected" not in change.fields


async def test_when_all_hosts_are_lost_at_once_nobody_is_charged_but_what_ran_alone(
    fork_server: ForkServer, directory: Path
) -> None:
    killer = running_record("ends")._replace(members={"how": "fork server"})
    neighbour, alone = apart(running_record("waits")), running_record("works")
    alone = alone._replace(alone=alone.attempt, apart=Apart.WORKER)
    types = registry("ends", "waits", "works")
    async with running_executor(fork_server, types, PoolSize(10, 1, apart=2)) as (executor, completions):
        for record in (neighbour, alone, killer):
            executor.begin(record)
        for record in (neighbour, alone):
            await began(directory, record)
        let_go(directory, killer)
        await eventually_lost(fork_server)
        executor.abandon()
        for record in (neighbour, killer):
            change = await change_of(completions, record)
            assert is_suspected(change)
            assert change.fields["lost_workers"] == 1
        assert (await change_of(completions, alone)).fields["charged"] == 1


async def eventually_lost(fork_server: ForkServer) -> None:
    async def lost() -> bool:
        return fork_server.lost.is_set()

    await eventually(lost)


@pytest.mark.parametrize("reason", [StopReason.DRAIN, StopReason.CANCEL])
async def test_an_attempt_that_is_stopped_before_its_own_process_is_there_ends_without_it(
    fork_server: ForkServer, directory: Path, reason: StopReason
) -> None:
    record = apart(running_record("waits"))
    size = PoolSize(0, 0, apart=1)
    async with running_executor(fork_server, registry("waits"), size) as (executor, completions):
        executor.begin(record)
        executor.stop(record.key, record.attempt, reason)
        change = (await completions.of(record)).change
        assert (change is None) == (reason is StopReason.CANCEL)
        await has_all_room(executor, size)
        assert not (directory / f"{record.id}.began").exists()


async def test_what_has_no_process_of_its_own_because_every_fork_fails_goes_back_unharmed(
    fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(fork_server, "start_host", refuse)
    monkeypatch.setattr(pool, "APART_TRIES", 2)
    record = apart(running_record("waits"))
    async with running_executor(fork_server, registry("waits"), PoolSize(0, 0, apart=1)) as (executor, completions):
        executor.begin(record)
        change = await change_of(completions, record)
        assert (change.transition, change.stage, "suspected" in change.fields) == ("hand_back", "queued", False)
        assert executor.pool.room().apart == 1
        assert "no more processes" in executor.pool.fork_error


async def test_a_function_apart_that_overruns_its_time_is_killed_and_frees_its_room(fork_server: ForkServer) -> None:
    record = apart(running_record("deaf", attempts=1, run_within=0.2, grace=0.1))
    size = PoolSize(0, 0, apart=1)
    async with running_executor(fork_server, registry("deaf"), size) as (executor, completions):
        executor.begin(record)
        change = await change_of(completions, record)
        assert change.fields["result_info"].code == 408
        await has_all_room(executor, size)


async def test_a_coroutine_apart_that_clings_is_killed_when_its_attempt_ends(
    fork_server: ForkServer, directory: Path
) -> None:
    record = apart(running_record("clings", attempts=1, run_within=0.2, grace=0.1))
    size = PoolSize(0, 0, apart=1)
    async with running_executor(fork_server, registry("clings"), size) as (executor, completions):
        executor.begin(record)
        pid = await began(directory, record)
        assert (await change_of(completions, record)).fields["result_info"].code == 408
        await gone(pid)
        await has_all_room(executor, size)
