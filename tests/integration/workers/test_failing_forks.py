"""Forks that the system refuses: hosts are started later, and what runs goes on."""

import errno
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.executors import registry, running_executor, running_record
from tests.support.handler_files import began
from tests.support.hosts import FUNCTION, HostClient
from tests.support.waiting import eventually
from tracker.runtime import failpoints
from workers import fork_limits
from workers.fork_server import ForkServer
from workers.outcome import Died, Succeeded
from workers.pool import PoolSize

TYPES = ("waits", "works")
Refuse = Callable[[int], None]


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes every fork of a host fail with this error from now on; 0 makes them succeed again.

    It has to be in place before the fork server is forked.
    """
    number = tmp_path / "errno"

    def fail(failpoint: str) -> None:
        if failpoint == failpoints.BEFORE_FORK and number.exists() and (error := int(number.read_text())):
            raise OSError(error, os.strerror(error))

    def refuse(error: int) -> None:
        fresh = tmp_path / "errno.new"
        fresh.write_text(str(error))
        fresh.rename(number)

    monkeypatch.setattr(failpoints, "hook", fail)
    return refuse


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_a_fork_that_fails_is_tried_again_and_what_runs_goes_on(
    refuse: Refuse, fork_server: ForkServer, directory: Path, error: int
) -> None:
    dying, other, later = running_record("works"), running_record("waits"), running_record("works")
    async with running_executor(fork_server, registry(*TYPES), PoolSize(2, 1)) as (executor, completions):
        executor.begin(other)
        executor.begin(dying)
        await began(directory, other)
        refuse(error)
        os.kill(await began(directory, dying), 9)
        assert isinstance((await completions.of(dying)).outcome, Died)

        async def refused() -> bool:
            return os.strerror(error) in executor.pool.fork_error

        await eventually(refused)
        assert executor.pool.room()[1] == 0
        (directory / f"{other.id}.go").touch()
        assert isinstance((await completions.of(other)).outcome, Succeeded)

        refuse(0)

        async def has_room() -> bool:
            return executor.pool.room()[1] > 0

        await eventually(has_room)
        assert executor.pool.fork_error == ""
        (directory / f"{later.id}.go").touch()
        executor.begin(later)
        assert isinstance((await completions.of(later)).outcome, Succeeded)


async def test_a_worker_opens_though_every_fork_fails_and_gets_its_hosts_later(
    refuse: Refuse, fork_server: ForkServer
) -> None:
    refuse(errno.EAGAIN)
    async with running_executor(fork_server, registry(*TYPES), PoolSize(2, 1)) as (executor, _):
        assert executor.pool.room()[:2] == (0, 0)
        refuse(0)

        async def is_complete() -> bool:
            return all(executor.pool.room())

        await eventually(is_complete)


async def test_a_manager_without_a_descriptor_for_a_host_gets_one_later(host_client: HostClient) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            await host_client.host(FUNCTION)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    host = await host_client.host(FUNCTION)
    assert isinstance(await host_client.run(host, "echoFunction"), Succeeded)


async def test_a_fork_server_is_forked_as_soon_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.EAGAIN, "no"), OSError(errno.EAGAIN, "no")]
    pauses: list[float] = []
    real_fork = os.fork

    def fork() -> int:
        if failures:
            raise failures.pop()
        return real_fork()

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(time, "sleep", pauses.append)
    server = ForkServer.fork(registry("works"))
    await server.open()
    await server.close()
    assert pauses == [*fork_limits.DELAYS[:2]]


def test_a_thread_that_the_system_refuses_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    failures = [RuntimeError("can't start new thread")] * 2

    def start() -> str:
        if failures:
            raise failures.pop()
        return "started"

    assert fork_limits.patiently(start, "thread") == "started"


async def test_a_fork_server_that_cannot_be_forked_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(BlockingIOError):
        ForkServer.fork(registry("works"))


def test_the_limit_that_makes_a_fork_fail_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pids.max").write_text("64\n")
    (tmp_path / "pids.current").write_text("63\n")
    monkeypatch.setattr(fork_limits, "_CGROUP", tmp_path)
    said = fork_limits.limit_of(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    assert said.startswith(os.strerror(errno.EAGAIN))
    assert "RLIMIT_NPROC" in said
    assert "pids.max 64, of which 63 are taken" in said
    assert "RLIMIT_NOFILE" in fork_limits.limit_of(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
