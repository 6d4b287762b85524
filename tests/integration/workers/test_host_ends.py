"""The ends of hosts: by themselves, when asked, when killed, and with their fork server and manager."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import COROUTINE, FUNCTION, HostClient, death, on_linux
from tests.support.processes import ROOT, alive, gone
from tests.support.waiting import soon
from workers.connection import HostConnection
from workers.fork_server import ForkServer
from workers.frames import ProgressReport
from workers.host import Host, HostKind
from workers.loop_turns import NO_SLOT
from workers.outcome import Succeeded

MANAGER = """
import asyncio, sys
from tests.support.hosts import HostClient, COROUTINE, FUNCTION
from tracker.domain.type_modules import load_types
from workers.fork_server import ForkServer

async def main(fork_server):
    await fork_server.open()
    host_client = HostClient(fork_server)
    hosts = [await host_client.host(COROUTINE), await host_client.host(FUNCTION)]
    started = await host_client.first_detail(host_client.start(hosts[1], "spawning", wait=True))
    print(fork_server.pid, *(host.pid for host in hosts), started, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(ForkServer.fork(load_types(["tests.support.host_types"]))))
"""


@pytest.mark.parametrize("kind", HostKind)
async def test_a_host_that_is_asked_to_finish_ends_after_its_attempts(host_client: HostClient, kind: HostKind) -> None:
    host = await host_client.host(kind)
    run_ids = [
        host_client.start(host, "echo" if kind is COROUTINE else "echoFunction", text="x" * 60_000) for _ in range(20)
    ]
    host.finish()
    ended = await death(host)
    assert (ended.pid, ended.exit_code, ended.expected) == (host.pid, 0, True)
    assert [type(await host_client.outcome(run_id)) for run_id in run_ids] == [Succeeded] * 20


@on_linux
async def test_what_a_function_left_running_ends_with_its_host_not_before(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "spawning", wait=False)
    left = int(await host_client.first_detail(run_id))
    await host_client.outcome(run_id)
    await host_client.run(host, "echoFunction")
    assert alive(left)
    host.finish()
    await death(host)
    await gone(left)


async def test_messages_of_a_host_are_received_before_its_death(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    done = [host_client.start(host, "echoFunction", text="x" * 60_000) for _ in range(20)]
    last = host_client.start(host, "endingFunction", how="kill")
    heard: list[int] = []
    host.death.add_done_callback(lambda _: heard.append(len(host_client.outcomes())))
    ended = await death(host)
    assert (ended.exit_code, ended.expected) == (-signal.SIGKILL, False)
    assert ended.peak_rss > 1024 * 1024
    assert heard == [len(done)]
    assert host_client.messages[last] == [ProgressReport(last, 90, "last words")]


async def test_the_death_of_a_host_harms_no_other(host_client: HostClient) -> None:
    one, other = await host_client.host(COROUTINE), await host_client.host(COROUTINE)
    run_id = host_client.start(other, "waiting", gate="mine")
    await host_client.first_detail(run_id)
    host_client.start(one, "ending", how="kill")
    assert (await death(one)).exit_code == -signal.SIGKILL
    await host_client.run(other, "opening", gate="mine")
    assert isinstance(await host_client.outcome(run_id), Succeeded)


@on_linux
async def test_a_host_that_is_killed_takes_along_what_its_function_started(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    started = int(await host_client.first_detail(host_client.start(host, "spawning", wait=True)))
    host.kill()
    ended = await death(host)
    assert (ended.exit_code, ended.expected) == (-signal.SIGKILL, True)
    await gone(host.pid, started)


@on_linux
async def test_a_fork_server_that_is_closed_leaves_nobody(host_fork_server: ForkServer) -> None:
    await host_fork_server.open()
    host_client = HostClient(host_fork_server)
    hosts = [await host_client.host(kind) for kind in (COROUTINE, FUNCTION, FUNCTION)]
    started = int(await host_client.first_detail(host_client.start(hosts[1], "spawning", wait=True)))
    await host_client.fork_server.close()
    assert not host_client.fork_server.lost.is_set()
    await gone(host_client.fork_server.pid, started, *(host.pid for host in hosts))


@on_linux
async def test_when_the_fork_server_dies_its_hosts_die_and_the_manager_knows(host_client: HostClient) -> None:
    host = await host_client.host(COROUTINE)
    os.kill(host_client.fork_server.pid, signal.SIGKILL)
    await soon(host_client.fork_server.lost.wait())
    await gone(host.pid)
    await death(host)


@on_linux
async def test_a_host_whose_last_messages_nobody_waits_for_leaves_no_connection_open() -> None:
    ours, theirs = socket.socketpair()
    _, line = await asyncio.get_running_loop().create_unix_connection(lambda: HostConnection(lambda _: None), sock=ours)
    with theirs:
        going = asyncio.create_task(Host(FUNCTION, 0, line, lambda _: None, slot=NO_SLOT).ended(-signal.SIGKILL, 0))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.wait({going})
        await soon(asyncio.shield(line.closed))


@on_linux
async def test_a_host_that_starts_while_its_fork_server_is_closed_leaves_no_connection_open(
    host_fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    asked, reaped = asyncio.Event(), asyncio.Event()
    connect, reap, end = loop.create_unix_connection, host_fork_server._reap, Host.ended
    lines: list[HostConnection] = []

    async def connect_late(*args: Any, **options: Any) -> Any:
        asked.set()
        await reaped.wait()
        transport, line = await connect(*args, **options)
        lines.append(line)
        return transport, line

    async def end_slowly(host: Host, code: int, peak_rss: int) -> None:
        await asyncio.sleep(0.1)
        await end(host, code, peak_rss)

    def reap_and_notify() -> None:
        reap()
        loop.call_soon_threadsafe(reaped.set)

    await host_fork_server.open()
    await host_fork_server.start_host(FUNCTION, lambda _: None)
    monkeypatch.setattr(loop, "create_unix_connection", connect_late)
    monkeypatch.setattr(host_fork_server, "_reap", reap_and_notify)
    monkeypatch.setattr(Host, "ended", end_slowly)
    born = asyncio.create_task(host_fork_server.start_host(FUNCTION, lambda _: None))
    await asked.wait()
    await host_fork_server.close()
    [host] = await asyncio.gather(born, return_exceptions=True)
    assert isinstance(host, ConnectionError) or (isinstance(host, Host) and host.death.done())
    await soon(asyncio.shield(lines[0].closed))


async def test_when_the_manager_is_killed_nobody_is_left() -> None:
    manager = await asyncio.create_subprocess_exec(sys.executable, "-c", MANAGER, cwd=ROOT, stdout=subprocess.PIPE)
    assert manager.stdout is not None
    pids = [int(pid) for pid in (await soon(manager.stdout.readline())).split()]
    manager.kill()
    await manager.wait()
    assert len(pids) == 4
    await gone(*pids)


@on_linux
async def test_hosts_that_come_and_go_leave_no_file_open(host_client: HostClient) -> None:
    def files(pid: int | str) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    before: list[int] = []
    for _ in range(50):
        host = await host_client.host(FUNCTION)
        await host_client.run(host, "echoFunction")
        host.finish()
        await death(host)
        before = before or [files("self"), files(host_client.fork_server.pid)]
    assert [files("self"), files(host_client.fork_server.pid)] == before


LOGGED = """
import asyncio, sys
from tests.support.hosts import HostClient
from tracker.domain.type_modules import load_types
from workers.host import HostKind
from workers.fork_server import ForkServer

async def main(fork_server):
    await fork_server.open()
    host_client = HostClient(fork_server)
    host = await host_client.host(HostKind({kind!r}))
    await host_client.run(host, {name!r}, **{members!r})
    host.kill()
    await host.death
    await fork_server.close()

asyncio.run(main(ForkServer.fork(load_types(["tests.support.host_types"]))))
"""


async def written(kind: HostKind, name: str, **members: object) -> str:
    """What a host wrote until its attempt's outcome, when it is killed; its output is a pipe."""
    script = LOGGED.format(kind=kind.value, name=name, members=members)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    output, _ = await soon(process.communicate())
    return output.decode()


async def test_a_handler_that_blocks_the_loop_is_logged_once_with_its_stack() -> None:
    told = await written(COROUTINE, "blocking", seconds=2.2)
    assert told.count("loop_blocked") == 1
    assert "op-1" in told
    assert "time.sleep(operation.seconds)" in told


@pytest.mark.parametrize(("kind", "name"), [(COROUTINE, "ending"), (FUNCTION, "endingFunction")])
async def test_what_a_handler_printed_is_out_before_its_outcome(kind: HostKind, name: str) -> None:
    assert "printed by a handler" in await written(kind, name, how="print")
