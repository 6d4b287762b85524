"""Hosts: how they are stopped, how they die, how they are replaced, and that nothing of them stays behind."""

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.executors import alive, began, exists, gone, let_go, registry, running_engine, running_record, told
from tests.support.waiting import eventually
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from workers.attempt import StopReason
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.outcome import Died, Stopped, Succeeded
from workers.pool import PoolSize

TYPES = ("waits", "works", "insists", "clings", "deaf", "blocks", "grows")


def stop(executor: Executor, record: Record, why: StopReason = StopReason.CANCEL) -> None:
    executor.stop(record.key, record.attempt, why)


async def test_a_coroutine_that_does_not_stop_ends_without_its_handler_and_the_others_end_well(
    fork_server: ForkServer, directory: Path
) -> None:
    clinging, other = running_record("clings", attempts=1, run_within=0.3, grace=0.2), running_record("waits")
    async with running_engine(fork_server, registry("clings", "waits"), PoolSize(2, 0)) as (executor, endings):
        executor.begin(clinging)
        executor.begin(other)
        host = await began(directory, clinging)
        assert await began(directory, other) == host

        ending = await endings.of(clinging)
        assert ending.change is not None
        result = ending.change.fields["result_info"]
        assert (ending.change.stage, result.code, result.subcode) == (Stage.FAILED, 408, 1)
        assert alive(host)

        later = running_record("waits")
        (directory / f"{later.id}.go").touch()
        await eventually(has_room(executor, coroutines=1))
        executor.begin(later)
        assert await began(directory, later) != host, "the host takes no more operations"
        assert isinstance((await endings.of(later)).outcome, Succeeded)

        assert alive(host), "it is needed until the other has ended"
        (directory / f"{other.id}.go").touch()
        assert isinstance((await endings.of(other)).outcome, Succeeded)
        await gone(host)
        assert not (directory / f"{clinging.id}.let_go").exists()


def has_room(executor: Executor, *, coroutines: int = 0, functions: int = 0) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        room = executor.pool.room()
        return room[0] >= coroutines and room[1] >= functions

    return check


async def test_a_function_that_hears_no_signal_is_killed_after_its_grace_and_its_neighbour_ends_well(
    fork_server: ForkServer, directory: Path
) -> None:
    deaf, other = running_record("deaf", attempts=1, run_within=0.3, grace=0.2), running_record("works")
    async with running_engine(fork_server, registry("deaf", "works"), PoolSize(0, 2)) as (executor, endings):
        executor.begin(deaf)
        executor.begin(other)
        host, its_neighbours = await began(directory, deaf), await began(directory, other)
        assert host != its_neighbours
        ending = await endings.of(deaf)
        assert ending.change is not None
        assert (ending.change.stage, ending.change.fields["result_info"].code) == (Stage.FAILED, 408)
        assert ending.change.entry is not None
        assert ending.change.entry["signal"] == -signal.SIGKILL
        assert "hint" not in ending.change.entry, "we killed it ourselves"
        await gone(host)
        (directory / f"{other.id}.go").touch()
        assert isinstance((await endings.of(other)).outcome, Succeeded)
        await eventually(has_room(executor, functions=2))


async def test_the_next_function_in_a_host_can_be_stopped_though_the_one_before_blocked_the_signal(
    fork_server: ForkServer, directory: Path
) -> None:
    first, second = running_record("deaf"), running_record("works", grace=60.0)
    async with running_engine(fork_server, registry("deaf", "works"), PoolSize(0, 1)) as (executor, endings):
        (directory / f"{first.id}.go").touch()
        executor.begin(first)
        await endings.of(first)
        executor.begin(second)
        assert await began(directory, second) == await began(directory, first)
        stop(executor, second)
        assert isinstance((await endings.of(second)).outcome, Stopped)
    assert await told(directory / f"{second.id}.stopped") == "HandlerStopped"


async def test_a_handler_that_ends_well_in_spite_of_a_stop_wins(fork_server: ForkServer, directory: Path) -> None:
    record = running_record("insists")
    async with running_engine(fork_server, registry("insists"), PoolSize(1, 0)) as (executor, endings):
        executor.begin(record)
        await began(directory, record)
        stop(executor, record)
        ending = await endings.of(record)
    assert ending.change is not None
    assert (ending.change.stage, ending.change.fields["result_info"].subcode) == (Stage.COMPLETED, 4)


async def test_a_host_that_dies_takes_its_own_operations_with_it_and_no_other(
    fork_server: ForkServer, directory: Path
) -> None:
    coroutines = [running_record("waits") for _ in range(3)]
    functions = [running_record("works") for _ in range(2)]
    async with running_engine(fork_server, registry("waits", "works"), PoolSize(10, 2)) as (executor, endings):
        for record in (*coroutines, *functions):
            executor.begin(record)
        hosts = [await began(directory, record) for record in functions]
        os.kill(hosts[0], signal.SIGKILL)
        lost = await endings.of(functions[0])
        assert isinstance(lost.outcome, Died)
        assert lost.outcome.exit_code == -signal.SIGKILL
        assert "out of memory" in str(lost.outcome.hint)

        os.kill(await began(directory, coroutines[0]), signal.SIGUSR2)
        for record in coroutines:
            ending = await endings.of(record)
            assert isinstance(ending.outcome, Died)
            assert (ending.outcome.exit_code, ending.outcome.hint) == (-signal.SIGUSR2, None)

        assert alive(hosts[1])
        (directory / "all.go").touch()
        assert isinstance((await endings.of(functions[1])).outcome, Succeeded)
        await eventually(has_room(executor, coroutines=10, functions=2))
        again = running_record("waits"), running_record("works")
        for record in again:
            executor.begin(record)
        assert [type((await endings.of(record)).outcome) for record in again] == [Succeeded] * 2


async def test_a_host_is_replaced_after_so_many_operations(fork_server: ForkServer, directory: Path) -> None:
    (directory / "all.go").touch()
    hosts = []
    async with running_engine(fork_server, registry("works"), PoolSize(0, 1, recycle_after=3)) as (executor, endings):
        for _ in range(7):
            record = running_record("works")
            await eventually(has_room(executor, functions=1))
            executor.begin(record)
            await endings.of(record)
            hosts.append(await began(directory, record))
        for host in hosts[:6]:
            await gone(host)
    assert [hosts.count(host) for host in dict.fromkeys(hosts)] == [3, 3, 1]


async def test_a_host_that_is_replaced_with_several_operations_at_hand_ends_after_them(
    fork_server: ForkServer, directory: Path
) -> None:
    async with running_engine(fork_server, registry("works"), PoolSize(0, 1, recycle_after=3)) as (executor, endings):
        executor.pool._function_seconds = 0.001  # functions are short: a host gets several at once
        records = [running_record("works") for _ in range(8)]
        for record in records:
            executor.begin(record)
        host = await began(directory, records[0])
        let_go(directory, records[0])
        await endings.of(records[0])
        let_go(directory)
        for record in records:
            await endings.of(record)
        await gone(host)


async def test_a_function_that_hears_no_signal_is_killed_whatever_waits_behind_it(
    fork_server: ForkServer, directory: Path
) -> None:
    deaf = running_record("deaf", attempts=1, run_within=0.2, grace=0.2)
    behind = [running_record("works") for _ in range(3)]
    async with running_engine(fork_server, registry("deaf", "works"), PoolSize(0, 1)) as (executor, endings):
        executor.pool._function_seconds = 0.001
        for record in (deaf, *behind):
            executor.begin(record)
        host = await began(directory, deaf)
        died = (await endings.of(deaf)).outcome
        assert isinstance(died, Died)
        assert died.exit_code == -signal.SIGKILL
        for record in behind:
            change = (await endings.of(record)).change
            assert change is not None
            assert change.transition == "hand_back"
            assert not exists(directory / f"{record.id}.began")
        await gone(host)


async def test_a_host_that_takes_too_much_memory_is_replaced_once_it_is_free(
    fork_server: ForkServer, directory: Path
) -> None:
    greedy, at_hand = running_record("grows")._replace(members={"mebibytes": 100}), running_record("works")
    size = PoolSize(0, 1, memory_limit=150 * 1024 * 1024)
    async with running_engine(fork_server, registry("grows", "works"), size) as (executor, endings):
        executor.begin(greedy)
        await endings.of(greedy)
        executor.begin(at_hand)
        host = await began(directory, at_hand)
        assert host == await began(directory, greedy)
        executor.pool.check_memory()
        await eventually(has_room(executor, functions=1))
        assert alive(host), "it still has an operation"
        (directory / "all.go").touch()
        assert isinstance((await endings.of(at_hand)).outcome, Succeeded)
        await gone(host)


async def test_a_coroutine_that_does_not_stop_for_a_drain_is_killed_when_its_neighbours_have_had_their_grace(
    fork_server: ForkServer, directory: Path
) -> None:
    stuck, slow, slowest = (running_record("clings", grace=grace) for grace in (0.2, 60.0, 60.0))
    async with running_engine(fork_server, registry("clings"), PoolSize(3, 0)) as (executor, endings):
        for record in (stuck, slow, slowest):
            executor.begin(record)
        host = await began(directory, stuck)
        executor.hand_back()
        for record in (slow, slowest):
            await began(directory, record)

        async def grace_is_over() -> bool:
            return all(attempt.due == math.inf for attempt in executor.running.values() if attempt.record is stuck)

        await eventually(grace_is_over)
        assert alive(host)
        for record in (slow, slowest):
            let_go(directory, record)
            assert isinstance((await endings.of(record)).outcome, Succeeded)
        change = (await endings.of(stuck)).change
        assert change is not None
        assert change.transition == "hand_back"
        await gone(host)


async def test_when_the_fork_server_dies_everything_goes_with_it_and_is_handed_back(
    fork_server: ForkServer, directory: Path
) -> None:
    records = running_record("waits"), running_record("works")
    async with running_engine(fork_server, registry("waits", "works"), PoolSize(1, 1)) as (executor, endings):
        for record in records:
            executor.begin(record)
        hosts = [await began(directory, record) for record in records]
        os.kill(fork_server.pid, signal.SIGKILL)
        await asyncio.wait_for(fork_server.lost.wait(), 5)
        executor.abandon()
        for record in records:
            ending = endings[record.id]
            assert ending.change is not None
            assert (ending.change.transition, "charged" in ending.change.fields) == ("hand_back", False)
        for host in hosts:
            await gone(host)
