"""Attempts whose lease may have ended before their handler begins, for example because the worker was suspended.

Such a handler must not begin: the operation may run elsewhere by now, or the next one of its call.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.executors import Completions, registry, running_executor, running_record
from tests.support.handler_files import began, exists, let_go
from tests.support.hosts import COROUTINE, FUNCTION, HostClient
from tests.support.waiting import eventually
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Transition
from tracker.store.store import LEASE
from workers.attempt import Attempt
from workers.fork_server import ForkServer
from workers.frames import AttemptRefused
from workers.host import HostKind
from workers.outcome import Stopped
from workers.pool import PoolSize

TYPES = ("waits", "works")
LONG_AGO = LEASE + 1


def apart(record: Record) -> Record:
    return record._replace(apart=Apart.PROCESS)


async def is_handed_back_uncharged(completions: Completions, record: Record) -> None:
    completion = await completions.of(record)
    assert completion.change is not None
    assert isinstance(completion.outcome, Stopped)
    assert (completion.change.transition, "charged" in completion.change.fields) == (Transition.HAND_BACK, False)


@pytest.mark.parametrize("kind", ["waits", "works"])
async def test_the_reply_to_a_claim_that_comes_after_the_lease_begins_nothing(
    fork_server: ForkServer, directory: Path, kind: str
) -> None:
    shared, alone = running_record(kind), apart(running_record(kind))
    async with running_executor(fork_server, registry(kind), PoolSize(1, 1, apart=1)) as (executor, completions):
        for record in (shared, alone):
            executor.begin(record, time.monotonic() - LONG_AGO)
            await is_handed_back_uncharged(completions, record)
            assert not exists(directory / f"{record.id}.began")


async def test_a_host_that_is_ready_after_the_lease_begins_nothing_and_is_used_again(
    fork_server: ForkServer, directory: Path
) -> None:
    late, next_one = apart(running_record("waits")), apart(running_record("waits"))
    size = PoolSize(0, 0, apart=1)
    async with running_executor(fork_server, registry("waits"), size) as (executor, completions):
        executor.begin(late)
        executor.running[late.key, late.attempt].lease_until = 0.0
        await is_handed_back_uncharged(completions, late)

        async def has_room() -> bool:
            return executor.pool.room().apart == 1

        await eventually(has_room)
        executor.begin(next_one)
        await began(directory, next_one)
        assert not exists(directory / f"{late.id}.began")
        let_go(directory, next_one)
        await completions.of(next_one)


@pytest.mark.parametrize("kind", [COROUTINE, FUNCTION])
async def test_a_host_that_slept_refuses_what_it_was_to_begin_before(host_client: HostClient, kind: HostKind) -> None:
    host = await host_client.host(kind)
    name = "echo" if kind is COROUTINE else "echoFunction"
    os.kill(host.pid, signal.SIGSTOP)
    late = host_client.start(host, name, begin_before=time.monotonic())
    in_time = host_client.start(host, name)
    os.kill(host.pid, signal.SIGCONT)
    await host_client.outcome(in_time)
    assert host_client.messages[late] == [AttemptRefused(late)]


@pytest.mark.parametrize("kind", ["waits", "works"])
async def test_an_attempt_that_its_host_refuses_is_handed_back_and_frees_its_room(
    fork_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    in_time = Attempt.message
    monkeypatch.setattr(Attempt, "message", lambda attempt: in_time(attempt)._replace(begin_before=0.0))
    record = running_record(kind)
    size = PoolSize(1, 0) if kind == "waits" else PoolSize(0, 1)
    async with running_executor(fork_server, registry(kind), size) as (executor, completions):

        async def has_room() -> bool:
            return any(executor.pool.room())

        await eventually(has_room)
        before = executor.pool.room()
        executor.begin(record)
        await is_handed_back_uncharged(completions, record)
        assert executor.pool.room() == before
        assert not exists(directory / f"{record.id}.began")
