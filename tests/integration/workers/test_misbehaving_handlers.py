"""Hosts whose handlers report from threads, fork, or report after their end; and what hosts do not inherit."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import COROUTINE, FUNCTION, HostClient, on_linux
from tests.support.waiting import soon
from workers.host import HostKind
from workers.outcome import Raised, Stopped, Succeeded


@pytest.mark.parametrize("kind", HostKind)
async def test_an_unknown_type_in_a_host_is_an_outcome(host_client: HostClient, kind: HostKind) -> None:
    host = await host_client.host(kind)
    assert isinstance(await host_client.run(host, "unknown"), Raised)


async def test_progress_may_be_reported_from_a_thread(host_client: HostClient) -> None:
    host = await host_client.host(COROUTINE)
    run_id = host_client.start(host, "threading")
    await host_client.outcome(run_id)
    assert host_client.details(run_id) == ["from a thread"]


async def test_nothing_comes_after_an_outcome(host_client: HostClient) -> None:
    host = await host_client.host(COROUTINE)
    left = host_client.start(host, "leaving", gate="late")
    await host_client.outcome(left)
    await host_client.run(host, "opening", gate="late")
    await host_client.run(host, "waiting", gate="reported")
    assert len(host_client.messages[left]) == 1


@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize(("how", "error"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
async def test_a_task_that_raises_an_exit_ends_its_own_attempt_and_not_the_loop(
    host_client: HostClient, how: str, error: str, awaited: bool
) -> None:
    host = await host_client.host(COROUTINE)
    neighbour = host_client.start(host, "waiting", gate="neighbour")
    await host_client.first_detail(neighbour)
    for _ in range(3):
        outcome = await host_client.run(host, "exiting", how=how, awaited=awaited)
        assert isinstance(outcome, Raised)
        assert outcome.result.message == f"The handler failed: {error}."
    await host_client.run(host, "opening", gate="neighbour")
    assert isinstance(await host_client.outcome(neighbour), Succeeded)
    assert not host.death.done()


async def test_a_function_finds_the_process_as_it_was_before_the_functions_before_it(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_ids = []
    for name in ("looking", "tampering", "looking"):
        run_ids.append(host_client.start(host, name))
        assert isinstance(await host_client.outcome(run_ids[-1]), Succeeded)
    before, _, after = map(host_client.details, run_ids)
    assert after[:-1] == before[:-1]
    assert len(after) == 9
    assert after[-1] == "random False"
    stopped = host_client.start(host, "sleeping")
    await host_client.first_detail(stopped)
    host.stop(stopped)
    assert isinstance(await host_client.outcome(stopped), Stopped), "the signal of a stop is received again"


async def test_a_child_that_a_function_forks_does_not_become_a_host(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "forking")
    assert isinstance(await host_client.outcome(run_id), Succeeded)
    assert isinstance(await host_client.run(host, "echoFunction"), Succeeded)
    assert len(host_client.messages[run_id]) == 1


async def test_a_fork_server_that_has_died_forks_no_host(host_client: HostClient) -> None:
    os.kill(host_client.fork_server.pid, signal.SIGKILL)
    await soon(host_client.fork_server.lost.wait())
    with pytest.raises(ConnectionError):
        await soon(host_client.fork_server.start_host(COROUTINE, host_client.receive))


@on_linux
async def test_hosts_do_not_hold_what_the_manager_had_open(inherited: socket.socket, host_client: HostClient) -> None:
    """Else a server would wait for the end of a connection that its owner has long closed."""
    host = await host_client.host(FUNCTION)
    await host_client.run(host, "echoFunction")
    held = {pid: _sockets(pid) for pid in (host_client.fork_server.pid, host.pid)}
    number = os.fstat(inherited.fileno()).st_ino
    assert not [pid for pid, names in held.items() if f"socket:[{number}]" in names]


@pytest.fixture
def inherited() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def _sockets(pid: int) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
