"""What handlers do that they should not, and what their hosts must not keep."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workers.test_hosts import COROUTINE, FUNCTION, Crew, crew, fork_server, on_linux
from workers.host import HostKind

__all__ = ["crew", "fork_server"]


@pytest.mark.parametrize("kind", HostKind)
async def test_a_type_that_a_host_does_not_have_is_an_outcome(crew: Crew, kind: HostKind) -> None:
    host = await crew.host(kind)
    assert (await crew.run(host, "unknown"))["outcome"] == "raised"


async def test_progress_may_be_reported_from_a_thread(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    ref = crew.begin(host, "threading")
    await crew.outcome(ref)
    assert [line.get("detail") for line in crew.said[ref]] == ["from a thread", None]


async def test_nothing_comes_after_an_outcome(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    left = crew.begin(host, "leaving", gate="late")
    await crew.outcome(left)
    await crew.run(host, "opening", gate="late")
    await crew.run(host, "waiting", gate="reported")
    assert len(crew.said[left]) == 1


async def test_a_child_that_a_function_forks_does_not_become_a_host(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "forking")
    assert (await crew.outcome(ref))["outcome"] == "succeeded"
    assert (await crew.run(host, "echoFunction"))["outcome"] == "succeeded"
    assert len(crew.said[ref]) == 1


async def test_a_fork_server_that_has_died_forks_no_host(crew: Crew) -> None:
    os.kill(crew.fork_server.pid, signal.SIGKILL)
    await asyncio.wait_for(crew.fork_server.lost.wait(), 15)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(crew.fork_server.start_host(COROUTINE, crew.hear), 5)


@on_linux
async def test_hosts_do_not_hold_what_the_manager_had_open(inherited: socket.socket, crew: Crew) -> None:
    """Else a server would wait for the end of a connection that its owner has long closed."""
    host = await crew.host(FUNCTION)
    await crew.run(host, "echoFunction")
    held = {pid: _sockets(pid) for pid in (crew.fork_server.pid, host.pid)}
    number = os.fstat(inherited.fileno()).st_ino
    assert not [pid for pid, names in held.items() if f"socket:[{number}]" in names]


@pytest.fixture
def inherited() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def _sockets(pid: int) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
