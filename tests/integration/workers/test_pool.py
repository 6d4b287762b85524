"""The pool of hosts: how hosts are stopped, killed and replaced."""

import math
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.executors import registry, running_executor, running_record
from tests.support.handler_files import began, exists, let_go, text_of
from tests.support.processes import alive, gone
from tests.support.waiting import eventually, soon
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from workers import attempt as attempts
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
    clinging, other = running_record("clings", attempts=1, grace=0.2), running_record("waits")
    async with running_executor(fork_server, registry("clings", "waits"), PoolSize(2, 0)) as (executor, completions):
        executor.begin(clinging)
        executor.begin(other)
        host = await began(directory, clinging)
        assert await began(directory, other) == host

        stop(executor, clinging, StopReason.DEADLINE)
        completion = await completions.of(clinging)
        assert completion.change is not None
        result = completion.change.fields["result_info"]
        assert (completion.change.stage, result.code, result.subcode) == (Stage.FAILED, 408, 1)
        assert alive(host)

        later = running_record("waits")
        (directory / f"{later.id}.go").touch()
        await eventually(has_room(executor, coroutines=1))
        executor.begin(later)
        assert await began(directory, later) != host, "the host takes no more operations"
        assert isinstance((await completions.of(later)).outcome, Succeeded)

        assert alive(host), "it is needed until the other has ended"
        (directory / f"{other.id}.go").touch()
        assert isinstance((await completions.of(other)).outcome, Succeeded)
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
    deaf, other = running_record("deaf", attempts=1, grace=0.2), running_record("works")
    async with running_executor(fork_server, registry("deaf", "works"), PoolSize(0, 2)) as (executor, completions):
        executor.begin(deaf)
        executor.begin(other)
        host, its_neighbours = await began(directory, deaf), await began(directory, other)
        assert host != its_neighbours
        stop(executor, deaf, StopReason.DEADLINE)
        completion = await completions.of(deaf)
        assert completion.change is not None
        assert (completion.change.stage, completion.change.fields["result_info"].code) == (Stage.FAILED, 408)
        assert completion.change.entry is not None
        assert completion.change.entry["signal"] == -signal.SIGKILL
        assert "hint" not in completion.change.entry, "we killed it ourselves"
        await gone(host)
        (directory / f"{other.id}.go").touch()
        assert isinstance((await completions.of(other)).outcome, Succeeded)
        await eventually(has_room(executor, functions=2))


async def test_the_next_function_in_a_host_can_be_stopped_though_the_one_before_blocked_the_signal(
    fork_server: ForkServer, directory: Path
) -> None:
    first, second = running_record("deaf"), running_record("works", grace=60.0)
    async with running_executor(fork_server, registry("deaf", "works"), PoolSize(0, 1)) as (executor, completions):
        (directory / f"{first.id}.go").touch()
        executor.begin(first)
        await completions.of(first)
        executor.begin(second)
        assert await began(directory, second) == await began(directory, first)
        stop(executor, second)
        assert isinstance((await completions.of(second)).outcome, Stopped)
    assert await text_of(directory / f"{second.id}.stopped") == "HandlerStopped"


async def test_a_handler_that_ends_well_in_spite_of_a_stop_wins(fork_server: ForkServer, directory: Path) -> None:
    record = running_record("insists")
    async with running_executor(fork_server, registry("insists"), PoolSize(1, 0)) as (executor, completions):
        executor.begin(record)
        await began(directory, record)
        stop(executor, record)
        completion = await completions.of(record)
    assert completion.change is not None
    assert (completion.change.stage, completion.change.fields["result_info"].subcode) == (Stage.COMPLETED, 4)


async def test_a_host_that_dies_takes_its_own_operations_with_it_and_no_other(
    fork_server: ForkServer, directory: Path
) -> None:
    coroutines = [running_record("waits") for _ in range(3)]
    functions = [running_record("works") for _ in range(2)]
    async with running_executor(fork_server, registry("waits", "works"), PoolSize(10, 2)) as (executor, completions):
        for record in (*coroutines, *functions):
            executor.begin(record)
        hosts = [await began(directory, record) for record in functions]
        os.kill(hosts[0], signal.SIGKILL)
        lost = await completions.of(functions[0])
        assert isinstance(lost.outcome, Died)
        assert lost.outcome.exit_code == -signal.SIGKILL
        assert "out of memory" in str(lost.outcome.hint)

        os.kill(await began(directory, coroutines[0]), signal.SIGUSR2)
        for record in coroutines:
            completion = await completions.of(record)
            assert isinstance(completion.outcome, Died)
            assert (completion.outcome.exit_code, completion.outcome.hint) == (-signal.SIGUSR2, None)

        assert alive(hosts[1])
        (directory / "all.go").touch()
        assert isinstance((await completions.of(functions[1])).outcome, Succeeded)
        await eventually(has_room(executor, coroutines=10, functions=2))
        again = running_record("waits"), running_record("works")
        for record in again:
            executor.begin(record)
        assert [type((await completions.of(record)).outcome) for record in again] == [Succeeded] * 2


async def test_a_host_is_replaced_after_so_many_operations(fork_server: ForkServer, directory: Path) -> None:
    (directory / "all.go").touch()
    hosts = []
    async with running_executor(fork_server, registry("works"), PoolSize(0, 1, recycle_after=3)) as (
        executor,
        completions,
    ):
        for _ in range(7):
            record = running_record("works")
            await eventually(has_room(executor, functions=1))
            executor.begin(record)
            await completions.of(record)
            hosts.append(await began(directory, record))
        for host in hosts[:6]:
            await gone(host)
    assert [hosts.count(host) for host in dict.fromkeys(hosts)] == [3, 3, 1]


async def test_a_host_that_is_replaced_with_several_operations_at_hand_ends_after_them(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", 3600.0)
    async with running_executor(fork_server, registry("works"), PoolSize(0, 1, recycle_after=3)) as (
        executor,
        completions,
    ):
        executor.pool._function_seconds = 0.001  # functions are short: a host gets several at once
        records = [running_record("works") for _ in range(8)]
        for record in records:
            executor.begin(record)
        host = await began(directory, records[0])
        let_go(directory, records[0])
        await completions.of(records[0])
        let_go(directory)
        for record in records:
            await completions.of(record)
        await gone(host)


async def test_a_function_that_hears_no_signal_is_killed_whatever_waits_behind_it(
    fork_server: ForkServer, directory: Path
) -> None:
    deaf = running_record("deaf", attempts=1, grace=0.2)
    behind = [running_record("works") for _ in range(3)]
    async with running_executor(fork_server, registry("deaf", "works"), PoolSize(0, 1)) as (executor, completions):
        executor.pool._function_seconds = 0.001
        for record in (deaf, *behind):
            executor.begin(record)
        host = await began(directory, deaf)
        stop(executor, deaf, StopReason.DEADLINE)
        died = (await completions.of(deaf)).outcome
        assert isinstance(died, Died)
        assert died.exit_code == -signal.SIGKILL
        for record in behind:
            change = (await completions.of(record)).change
            assert change is not None
            assert change.transition == "hand_back"
            assert not exists(directory / f"{record.id}.began")
        await gone(host)


async def test_a_host_that_takes_too_much_memory_is_replaced_once_it_is_free(
    fork_server: ForkServer, directory: Path
) -> None:
    greedy, at_hand = running_record("grows")._replace(members={"mebibytes": 100}), running_record("works")
    size = PoolSize(0, 1, memory_limit=150 * 1024 * 1024)
    async with running_executor(fork_server, registry("grows", "works"), size) as (executor, completions):
        executor.begin(greedy)
        await completions.of(greedy)
        executor.begin(at_hand)
        host = await began(directory, at_hand)
        assert host == await began(directory, greedy)
        executor.pool.check_memory()
        await eventually(has_room(executor, functions=1))
        assert alive(host), "it still has an operation"
        (directory / "all.go").touch()
        assert isinstance((await completions.of(at_hand)).outcome, Succeeded)
        await gone(host)


async def test_a_coroutine_that_does_not_stop_for_a_drain_is_killed_when_its_neighbours_have_had_their_grace(
    fork_server: ForkServer, directory: Path
) -> None:
    stuck, slow, slowest = (running_record("clings", grace=grace) for grace in (0.2, 60.0, 60.0))
    async with running_executor(fork_server, registry("clings"), PoolSize(3, 0)) as (executor, completions):
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
            assert isinstance((await completions.of(record)).outcome, Succeeded)
        change = (await completions.of(stuck)).change
        assert change is not None
        assert change.transition == "hand_back"
        await gone(host)


async def test_when_the_fork_server_dies_everything_goes_with_it_and_is_handed_back(
    fork_server: ForkServer, directory: Path
) -> None:
    records = running_record("waits"), running_record("works")
    async with running_executor(fork_server, registry("waits", "works"), PoolSize(1, 1)) as (executor, completions):
        for record in records:
            executor.begin(record)
        hosts = [await began(directory, record) for record in records]
        os.kill(fork_server.pid, signal.SIGKILL)
        await soon(fork_server.lost.wait())
        executor.abandon()
        for record in records:
            completion = completions[record.id]
            assert completion.change is not None
            assert (completion.change.transition, "charged" in completion.change.fields) == ("hand_back", False)
        for host in hosts:
            await gone(host)
