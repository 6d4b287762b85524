"""What seldom happens to attempts in hosts, and whom it must not cost anything."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.commanded_types import tell, wait
from tests.support.executors import (
    Endings,
    began,
    exists,
    gone,
    let_go,
    registry,
    running_engine,
    running_record,
    told,
)
from tests.support.waiting import eventually
from tracker import Context, Operation, handles
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
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


class Tidies(Operation, type="#executor.tidies"):
    """Cleans up when it is cancelled, which takes until it may go on."""


class Strays(Operation, type="#executor.strays"):
    """Leaves a thread behind that never ends."""


@handles(Tidies)
async def tidies(_operation: Tidies, context: Context) -> None:
    tell(context, "began", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        tell(context, "stopped")
        await wait(context)
        tell(context, "tidied")


@handles(Strays)
async def strays(_operation: Strays, context: Context) -> None:
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    tell(context, "began", os.getpid())


def has_room(executor: Executor, room: tuple[int, int]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return executor.pool.room() == room

    return check


async def is_handed_back(endings: Endings, record: Record) -> None:
    """Wait until it has ended, and see that nobody is charged."""
    change = (await endings.of(record)).change
    assert change is not None
    assert (change.transition, "charged" in change.fields) == (Transition.HAND_BACK, False)


async def test_functions_that_wait_behind_one_that_kills_their_host_are_handed_back_uncharged(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", AN_HOUR)
    first, *behind = (running_record("works") for _ in range(3))
    async with running_engine(fork_server, registry("works"), PoolSize(0, 1)) as (executor, endings):
        executor.pool._function_seconds = SHORT
        for record in (first, *behind):
            executor.begin(record)
        os.kill(await began(directory, first), signal.SIGKILL)
        lost = await endings.of(first)
        assert isinstance(lost.outcome, Died)
        assert lost.outcome.exit_code == -signal.SIGKILL
        assert lost.change is not None
        assert lost.change.fields["charged"] == 1
        for record in behind:
            await is_handed_back(endings, record)
            assert not exists(directory / f"{record.id}.began")


async def test_functions_that_were_taken_back_from_behind_a_long_one_are_not_replaced_by_others(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "QUEUED_IN_HOST_TIMEOUT", 0.1)
    async with running_engine(fork_server, registry("works"), PoolSize(0, 1)) as (executor, endings):
        executor.pool._function_seconds = SHORT
        assert executor.pool.room() == (0, MAX_PREFETCH)
        long, *behind = (running_record("works") for _ in range(MAX_PREFETCH))
        for record in (long, *behind):
            executor.begin(record)
        for record in behind:
            await is_handed_back(endings, record)
        assert executor.pool.room() == (0, 0), "functions are long: none has to wait behind another"
        let_go(directory)
        assert isinstance((await endings.of(long)).outcome, Succeeded)
        assert executor.pool.room() == (0, 1)


class Deafened(Host):
    """A host that is asked, and does not answer."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def stop(self, run_id: int) -> None:
        self.asked.append(run_id)


def test_a_function_that_begins_though_it_was_asked_back_has_its_grace_from_then_on() -> None:
    record, host = running_record("works", run_within=AN_HOUR, grace=7.0), Deafened()
    attempt = Attempt(1, record, host, 100.0, queued=True)
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
    async with running_engine(fork_server, registry("tidies", "clings"), PoolSize(2, 0)) as (executor, endings):
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
        await told(directory / f"{tidy.id}.stopped")
        await asyncio.wait_for(stuck.wait(), 15)
        let_go(directory, tidy)
        await is_handed_back(endings, tidy)
        assert exists(directory / f"{tidy.id}.tidied")
        await is_handed_back(endings, clinging)
        await gone(host)


async def test_a_coroutine_host_that_is_replaced_ends_though_a_handler_left_a_thread(
    fork_server: ForkServer, directory: Path
) -> None:
    record = running_record("strays")
    async with running_engine(fork_server, registry("strays"), PoolSize(1, 0)) as (executor, endings):
        executor.begin(record)
        [attempt] = executor.running.values()
        assert isinstance((await endings.of(record)).outcome, Succeeded)
        executor.pool.retire(attempt.host, "memory")
        await gone(await began(directory, record))
        await eventually(has_room(executor, (1, 0)))


async def test_a_host_that_we_killed_is_replaced_at_once_however_many_were_before(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FIRST_RESTART_DELAY", AN_HOUR)
    monkeypatch.setattr(pool, "MAX_RESTART_DELAY", AN_HOUR)
    async with running_engine(fork_server, registry("deaf"), PoolSize(0, 1)) as (executor, endings):
        hosts = []
        for _ in range(3):
            await eventually(has_room(executor, (0, 1)))
            record = running_record("deaf", run_within=0.1, grace=0.1)
            executor.begin(record)
            died = (await endings.of(record)).outcome
            assert isinstance(died, Died)
            assert died.exit_code == -signal.SIGKILL
            hosts.append(await began(directory, record))
        await eventually(has_room(executor, (0, 1)))
        assert len(set(hosts)) == len(hosts)


async def test_what_comes_after_everything_was_handed_back_goes_back_too(
    fork_server: ForkServer, directory: Path
) -> None:
    records = {HostKind.COROUTINE: running_record("waits"), HostKind.FUNCTION: running_record("works")}
    async with running_engine(fork_server, registry("waits", "works"), PoolSize(1, 1)) as (executor, endings):
        executor.hand_back()
        for record in records.values():
            executor.begin(record)
            await is_handed_back(endings, record)
        assert executor.idle.is_set()
        assert not any(exists(directory / f"{record.id}.began") for record in records.values())
