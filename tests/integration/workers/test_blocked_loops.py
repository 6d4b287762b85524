"""A coroutine that blocks the event loop: its neighbours do not wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.executors import Completions, registry, running_executor, running_record
from tests.support.handler_files import began, let_go
from tests.support.processes import alive, gone
from tests.support.waiting import eventually
from tracker.domain.change import Change
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage, Transition
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.outcome import Succeeded
from workers.pool import PoolSize

TYPES = ("holds", "waits")
LIMIT = 1.0


async def change_of(completions: Completions, record: Record) -> Change:
    change = (await completions.of(record)).change
    assert change is not None
    assert (change.transition, change.stage) == (Transition.HAND_BACK, Stage.QUEUED)
    assert (change.fields["apart"], "charged" in change.fields, "suspected" in change.fields) == (
        "process",
        False,
        False,
    )
    return change


def message(change: Change) -> str:
    assert change.entry is not None
    return str(change.entry["message"])


@pytest.mark.parametrize("where", ["handler", "task"])
async def test_the_neighbours_of_a_coroutine_that_blocks_the_loop_are_handed_back_after_the_process_is_killed(
    fork_server: ForkServer, directory: Path, where: str
) -> None:
    blocker = running_record("holds")._replace(members={"where": where})
    neighbours = [running_record("waits") for _ in range(3)]
    types, size = registry("holds", "waits"), PoolSize(10, 0, apart=2)
    async with running_executor(fork_server, types, size, block_limit=LIMIT) as (executor, completions):
        for record in neighbours:
            executor.begin(record)
            await began(directory, record)
        executor.begin(blocker)
        pid = await began(directory, blocker)
        for record in neighbours:
            change = await change_of(completions, record)
            assert not alive(pid), "nobody runs twice at a time"
            assert f"blocked by the operation {blocker.id}" in message(change)
        assert message(await change_of(completions, blocker)).startswith("It blocked the event loop")
        assert executor.loop_guard.blocking_types == {"executor.holds"}
        assert executor.rooms == {"executor.holds": "apart", "executor.waits": "coroutines"}

        again, other = running_record("holds")._replace(members={"where": where}), running_record("waits")
        executor.begin(again)
        await eventually(has_coroutine_room(executor))
        executor.begin(other)
        let_go(directory, other)
        assert await began(directory, again) != await began(directory, other)
        assert isinstance((await completions.of(other)).outcome, Succeeded)
        let_go(directory, again)
        assert isinstance((await completions.of(again)).outcome, Succeeded)


def has_coroutine_room(executor: Executor) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return executor.pool.room().coroutines > 0

    return check


async def test_when_nobody_knows_who_blocks_the_loop_all_run_apart_and_no_type_is_named(
    fork_server: ForkServer,
) -> None:
    records = [running_record("waits"), running_record("holds")._replace(members={"where": "callback"})]
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=LIMIT) as (executor, completions):
        for record in records:
            executor.begin(record)
        for record in records:
            assert "blocked by an operation" in message(await change_of(completions, record))
        assert not executor.loop_guard.blocking_types


async def test_a_coroutine_that_blocks_a_loop_of_its_own_runs_on_and_gets_no_neighbours(
    fork_server: ForkServer, directory: Path
) -> None:
    blocker, other = running_record("holds"), running_record("waits")
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=LIMIT) as (executor, completions):
        executor.begin(blocker)
        pid = await began(directory, blocker)

        async def is_noted() -> bool:
            return "executor.holds" in executor.loop_guard.blocking_types

        await eventually(is_noted)
        await eventually(has_coroutine_room(executor))
        executor.begin(other)
        assert await began(directory, other) != pid
        let_go(directory)
        for record in (blocker, other):
            assert isinstance((await completions.of(record)).outcome, Succeeded)
        await gone(pid)


async def test_a_coroutine_that_blocks_a_process_of_its_own_is_let_alone(
    fork_server: ForkServer, directory: Path
) -> None:
    blocker = running_record("holds")._replace(apart=Apart.PROCESS)
    types = registry("holds")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=0.2) as (executor, completions):
        executor.begin(blocker)
        await began(directory, blocker)
        await asyncio.sleep(1)
        let_go(directory, blocker)
        assert isinstance((await completions.of(blocker)).outcome, Succeeded)


async def test_without_a_limit_neighbours_wait(fork_server: ForkServer, directory: Path) -> None:
    blocker, other = running_record("holds"), running_record("waits")
    async with running_executor(fork_server, registry("holds", "waits"), PoolSize(10, 0)) as (executor, completions):
        executor.begin(blocker)
        await began(directory, blocker)
        executor.begin(other)
        await asyncio.sleep(1)
        let_go(directory)
        for record in (blocker, other):
            assert isinstance((await completions.of(record)).outcome, Succeeded)


async def test_a_process_with_an_operation_that_must_not_run_again_is_not_killed(
    fork_server: ForkServer, directory: Path
) -> None:
    blocker, other = running_record("holds"), running_record("waits", rerun_unproven=False)
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=LIMIT) as (executor, completions):
        executor.begin(other)
        await began(directory, other)
        executor.begin(blocker)

        async def is_noted() -> bool:
            return "executor.holds" in executor.loop_guard.blocking_types

        await eventually(is_noted)
        let_go(directory)
        for record in (blocker, other):
            assert isinstance((await completions.of(record)).outcome, Succeeded)


async def test_a_neighbour_whose_time_ends_while_another_blocks_the_loop_is_not_charged(
    fork_server: ForkServer,
) -> None:
    blocker, neighbour = running_record("holds"), running_record("waits", run_within=0.7, grace=0.1, attempts=1)
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=2.0) as (executor, completions):
        executor.begin(neighbour)
        executor.begin(blocker)
        assert f"blocked by the operation {blocker.id}" in message(await change_of(completions, neighbour))


async def test_the_loop_of_a_host_that_was_replaced_before_is_guarded_too(
    fork_server: ForkServer, directory: Path
) -> None:
    blocker, neighbour = running_record("holds"), running_record("waits")
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=LIMIT) as (executor, completions):
        for record in (neighbour, blocker):
            executor.begin(record)
        await began(directory, blocker)
        host = executor.running[blocker.key, 1].host
        assert host is not None
        executor.pool.retire(host, "memory")
        assert "blocked by the operation" in message(await change_of(completions, neighbour))


async def test_an_operation_beside_what_an_ended_one_has_left_is_not_taken_for_the_blocker(
    fork_server: ForkServer, directory: Path
) -> None:
    leaver, other = running_record("holds")._replace(members={"where": "left behind"}), running_record("waits")
    types = registry("holds", "waits")
    async with running_executor(fork_server, types, PoolSize(10, 0), block_limit=LIMIT) as (executor, completions):
        executor.begin(other)
        pid = await began(directory, other)
        executor.begin(leaver)
        await completions.of(leaver)

        async def is_replaced() -> bool:
            return executor.pool.room().coroutines == 10 - 1 and bool(executor.loop_guard._handled)

        await eventually(is_replaced)
        assert alive(pid), "nobody else waits in it"
        assert not executor.loop_guard.blocking_types
        let_go(directory)
        assert isinstance((await completions.of(other)).outcome, Succeeded)
