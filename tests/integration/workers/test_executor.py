"""The executor in rare cases: functions at hand, drains, replaced hosts, and deadlines."""

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.executors import Completions, registry, running_executor, running_record
from tests.support.handler_files import began, exists, let_go, text_of
from tests.support.processes import gone
from tests.support.waiting import eventually, soon
from tracker.domain.record import Record
from tracker.domain.transitions import Stage, Transition
from workers import attempt as attempts
from workers import pool
from workers.attempt import Attempt, StopReason
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.host import Host, HostKind
from workers.outcome import Died, Succeeded
from workers.pool import MAX_PREFETCH, PoolSize

TYPES = ("waits", "works", "clings", "deaf", "tidies", "strays")
SHORT = 0.001
"""Seconds that functions take, so short that a host gets several at once."""
AN_HOUR = 3600.0


def has_room(executor: Executor, room: tuple[int, int]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return executor.pool.room()[:2] == room

    return check


async def is_handed_back(completions: Completions, record: Record) -> None:
    """Wait until it has ended, and see that nobody is charged."""
    change = (await completions.of(record)).change
    assert change is not None
    assert (change.transition, "charged" in change.fields) == (Transition.HAND_BACK, False)


async def test_functions_that_wait_behind_one_that_kills_their_host_are_handed_back_uncharged(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", AN_HOUR)
    first, *behind = (running_record("works") for _ in range(3))
    async with running_executor(fork_server, registry("works"), PoolSize(0, 1)) as (executor, completions):
        executor.pool._function_seconds = SHORT
        for record in (first, *behind):
            executor.begin(record)
        os.kill(await began(directory, first), signal.SIGKILL)
        lost = await completions.of(first)
        assert isinstance(lost.outcome, Died)
        assert lost.outcome.exit_code == -signal.SIGKILL
        assert lost.change is not None
        assert lost.change.fields["charged"] == 1
        for record in behind:
            await is_handed_back(completions, record)
            assert not exists(directory / f"{record.id}.began")


async def test_functions_that_were_taken_back_from_behind_a_long_one_are_not_replaced_by_others(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", 0.1)
    async with running_executor(fork_server, registry("works"), PoolSize(0, 1)) as (executor, completions):
        executor.pool._function_seconds = SHORT
        assert executor.pool.room()[:2] == (0, MAX_PREFETCH)
        long, *behind = (running_record("works") for _ in range(MAX_PREFETCH))
        for record in (long, *behind):
            executor.begin(record)
        for record in behind:
            await is_handed_back(completions, record)
        assert executor.pool.room()[:2] == (0, 0), "functions are long: none has to wait behind another"
        let_go(directory)
        assert isinstance((await completions.of(long)).outcome, Succeeded)
        assert executor.pool.room()[:2] == (0, 1)


class Deafened(Host):
    """A host that is asked, and does not answer."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.begun = 0

    def stop(self, run_id: int) -> None:
        self.asked.append(run_id)


def test_a_function_that_begins_though_it_was_asked_back_has_its_grace_from_then_on() -> None:
    record, host = running_record("works", run_within=AN_HOUR, grace=7.0), Deafened()
    attempt = Attempt(1, record, host, 100.0, math.inf, queued=True)
    attempt.request_stop(StopReason.DRAIN, attempt.due)
    assert host.asked == [1]
    attempt.due = float("inf")  # its grace was over before the host came to it
    attempt.begin(160.0)
    assert (attempt.queued, attempt.due) == (False, 167.0)


async def test_at_a_drain_each_coroutine_has_its_own_grace_before_their_host_is_killed(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy, clinging = running_record("tidies", grace=60.0), running_record("clings", grace=0.1)
    stuck = asyncio.Event()
    async with running_executor(fork_server, registry("tidies", "clings"), PoolSize(2, 0)) as (executor, completions):
        force = executor._force_end

        def forced(attempt: Attempt) -> None:
            force(attempt)
            stuck.set()

        monkeypatch.setattr(executor, "_force_end", forced)
        for record in (tidy, clinging):
            executor.begin(record)
        host = await began(directory, tidy)
        assert host == await began(directory, clinging)
        executor.hand_back()
        await text_of(directory / f"{tidy.id}.stopped")
        await soon(stuck.wait())
        let_go(directory, tidy)
        await is_handed_back(completions, tidy)
        assert exists(directory / f"{tidy.id}.tidied")
        await is_handed_back(completions, clinging)
        await gone(host)


async def test_a_coroutine_host_that_is_replaced_ends_though_a_handler_left_a_thread(
    fork_server: ForkServer, directory: Path
) -> None:
    record = running_record("strays")
    async with running_executor(fork_server, registry("strays"), PoolSize(1, 0)) as (executor, completions):
        executor.begin(record)
        [attempt] = executor.running.values()
        assert isinstance((await completions.of(record)).outcome, Succeeded)
        assert attempt.host is not None
        executor.pool.retire(attempt.host, "memory")
        await gone(await began(directory, record))
        await eventually(has_room(executor, (1, 0)))


async def test_a_host_that_we_killed_is_replaced_at_once_however_many_were_before(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FIRST_RESTART_DELAY", AN_HOUR)
    monkeypatch.setattr(pool, "MAX_RESTART_DELAY", AN_HOUR)
    async with running_executor(fork_server, registry("deaf"), PoolSize(0, 1)) as (executor, completions):
        hosts = []
        for _ in range(3):
            await eventually(has_room(executor, (0, 1)))
            record = running_record("deaf", grace=0.1)
            executor.begin(record)
            hosts.append(await began(directory, record))
            executor.stop(record.key, record.attempt, StopReason.DEADLINE)
            died = (await completions.of(record)).outcome
            assert isinstance(died, Died)
            assert died.exit_code == -signal.SIGKILL
        await eventually(has_room(executor, (0, 1)))
        assert len(set(hosts)) == len(hosts)


async def test_what_comes_after_everything_was_handed_back_goes_back_too(
    fork_server: ForkServer, directory: Path
) -> None:
    records = {HostKind.COROUTINE: running_record("waits"), HostKind.FUNCTION: running_record("works")}
    async with running_executor(fork_server, registry("waits", "works"), PoolSize(1, 1)) as (executor, completions):
        executor.hand_back()
        for record in records.values():
            executor.begin(record)
            await is_handed_back(completions, record)
        assert executor.idle.is_set()
        assert not any(exists(directory / f"{record.id}.began") for record in records.values())


async def test_a_host_that_is_gone_is_never_signalled(fork_server: ForkServer, directory: Path) -> None:
    """Its pid may be another process's by then: an outcome can wait for Redis as long as it takes."""
    asked: list[Any] = []
    async with running_executor(fork_server, registry("works"), PoolSize(0, 1)) as (executor, completions):
        let_go(directory)
        record = running_record("works")
        executor.begin(record)
        host = executor.running[record.key, 1].host
        assert host is not None
        await completions.of(record)
        executor.pool.retire(host, "test")
        await soon(asyncio.shield(host.death))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fork_server, "_request", asked.append)
            host.kill()
            host.stop(1)
    assert not asked


@pytest.mark.parametrize(("kind", "size"), [("waits", PoolSize(1, 0)), ("works", PoolSize(0, 1))])
async def test_a_handler_is_asked_to_stop_at_its_deadline(
    fork_server: ForkServer, directory: Path, kind: str, size: PoolSize
) -> None:
    record = running_record(kind, attempts=1)
    async with running_executor(fork_server, registry("waits", "works"), size) as (executor, completions):
        executor.begin(record)
        await began(directory, record)
        [attempt] = executor.running.values()
        attempt.due = 0.0
        completion = await completions.of(record)
    assert exists(directory / f"{record.id}.stopped")
    assert completion.change is not None
    result = completion.change.fields["result_info"]
    assert (completion.change.stage, result.code, result.subcode) == (Stage.FAILED, 408, 1)
