"""How hosts end: by themselves, when told to, when killed, and with those they belong to."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.test_hosts import (
    COROUTINE,
    FUNCTION,
    ROOT,
    Crew,
    crew,
    death,
    fork_server,
    gone,
    on_linux,
)
from tests.support.executors import alive
from tests.support.waiting import eventually
from workers.connection import HostConnection
from workers.fork_server import ForkServer
from workers.host import Host, HostKind

__all__ = ["crew", "fork_server"]

MANAGER = """
import asyncio, sys
from tests.integration.workers.test_hosts import Crew, COROUTINE, FUNCTION
from tracker.domain.type_registry import load_types
from workers.fork_server import ForkServer

async def main(fork_server):
    await fork_server.open()
    crew = Crew(fork_server)
    hosts = [await crew.host(COROUTINE), await crew.host(FUNCTION)]
    started = await crew.begun(crew.begin(hosts[1], "spawning", wait=True))
    print(fork_server.pid, *(host.pid for host in hosts), started["detail"], flush=True)
    await asyncio.Event().wait()

asyncio.run(main(ForkServer.fork(load_types(["tests.support.host_handlers"]))))
"""


@pytest.mark.parametrize("kind", HostKind)
async def test_a_host_that_is_told_to_finish_ends_after_its_orders(crew: Crew, kind: HostKind) -> None:
    host = await crew.host(kind)
    refs = [crew.begin(host, "echo" if kind is COROUTINE else "echoFunction", text="x" * 60_000) for _ in range(20)]
    host.finish()
    ended = await death(host)
    assert (ended.pid, ended.exit_code, ended.expected) == (host.pid, 0, True)
    assert [crew.said[ref][-1]["outcome"] for ref in refs] == ["succeeded"] * 20


@on_linux
async def test_what_a_function_left_running_ends_with_its_host_not_before(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "spawning", wait=False)
    left = int((await crew.begun(ref))["detail"])
    await crew.outcome(ref)
    await crew.run(host, "echoFunction")
    assert alive(left)
    host.finish()
    await death(host)
    await eventually(gone(left))


async def test_what_a_host_said_is_heard_before_its_death(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    done = [crew.begin(host, "echoFunction", text="x" * 60_000) for _ in range(20)]
    last = crew.begin(host, "endingFunction", how="kill")
    heard: list[int] = []
    host.death.add_done_callback(lambda _: heard.append(len(crew.outcomes())))
    ended = await death(host)
    assert (ended.exit_code, ended.expected) == (-signal.SIGKILL, False)
    assert ended.peak_rss > 1024 * 1024
    assert heard == [len(done)]
    assert crew.said[last] == [{"ref": last, "progress": 90, "detail": "last words"}]


async def test_the_death_of_a_host_harms_no_other(crew: Crew) -> None:
    one, other = await crew.host(COROUTINE), await crew.host(COROUTINE)
    ref = crew.begin(other, "waiting", gate="mine")
    await crew.begun(ref)
    crew.begin(one, "ending", how="kill")
    assert (await death(one)).exit_code == -signal.SIGKILL
    await crew.run(other, "opening", gate="mine")
    assert (await crew.outcome(ref))["outcome"] == "succeeded"


@on_linux
async def test_a_host_that_is_killed_takes_along_what_its_function_started(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    started = int((await crew.begun(crew.begin(host, "spawning", wait=True)))["detail"])
    host.kill()
    ended = await death(host)
    assert (ended.exit_code, ended.expected) == (-signal.SIGKILL, True)
    await eventually(gone(host.pid, started))


@on_linux
async def test_a_fork_server_that_is_closed_leaves_nobody(fork_server: ForkServer) -> None:
    await fork_server.open()
    crew = Crew(fork_server)
    hosts = [await crew.host(kind) for kind in (COROUTINE, FUNCTION, FUNCTION)]
    started = int((await crew.begun(crew.begin(hosts[1], "spawning", wait=True)))["detail"])
    await crew.fork_server.close()
    assert not crew.fork_server.lost.is_set()
    await eventually(gone(crew.fork_server.pid, started, *(host.pid for host in hosts)))


@on_linux
async def test_when_the_fork_server_dies_its_hosts_die_and_the_manager_knows(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    os.kill(crew.fork_server.pid, signal.SIGKILL)
    await asyncio.wait_for(crew.fork_server.lost.wait(), 15)
    await eventually(gone(host.pid))
    await death(host)


@on_linux
async def test_a_host_whose_last_messages_nobody_waits_for_leaves_no_line_open() -> None:
    ours, theirs = socket.socketpair()
    _, line = await asyncio.get_running_loop().create_unix_connection(lambda: HostConnection(lambda _: None), sock=ours)
    with theirs:
        going = asyncio.create_task(Host(FUNCTION, 0, line, lambda _: None).ended(-signal.SIGKILL, 0))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.wait({going})
        await asyncio.wait_for(asyncio.shield(line.closed), 5)


@on_linux
async def test_a_host_that_is_born_while_its_fork_server_is_closed_leaves_no_line_open(
    fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    asked, reaped = asyncio.Event(), asyncio.Event()
    connect, reap, end = loop.create_unix_connection, fork_server._reap, Host.ended
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

    def reap_and_tell() -> None:
        reap()
        loop.call_soon_threadsafe(reaped.set)

    await fork_server.open()
    await fork_server.start_host(FUNCTION, lambda _: None)
    monkeypatch.setattr(loop, "create_unix_connection", connect_late)
    monkeypatch.setattr(fork_server, "_reap", reap_and_tell)
    monkeypatch.setattr(Host, "ended", end_slowly)
    born = asyncio.create_task(fork_server.start_host(FUNCTION, lambda _: None))
    await asked.wait()
    await fork_server.close()
    assert (await born).death.done()
    await asyncio.wait_for(asyncio.shield(lines[0].closed), 5)


async def test_when_the_manager_is_killed_nobody_is_left() -> None:
    manager = await asyncio.create_subprocess_exec(sys.executable, "-c", MANAGER, cwd=ROOT, stdout=subprocess.PIPE)
    assert manager.stdout is not None
    pids = [int(pid) for pid in (await asyncio.wait_for(manager.stdout.readline(), 30)).split()]
    manager.kill()
    await manager.wait()
    assert len(pids) == 4
    await eventually(gone(*pids))


@on_linux
async def test_hosts_that_come_and_go_leave_no_file_open(crew: Crew) -> None:
    def files(pid: int | str) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    before: list[int] = []
    for _ in range(50):
        host = await crew.host(FUNCTION)
        await crew.run(host, "echoFunction")
        host.finish()
        await death(host)
        before = before or [files("self"), files(crew.fork_server.pid)]
    assert [files("self"), files(crew.fork_server.pid)] == before


LOGGED = """
import asyncio, sys
from tests.integration.workers.test_hosts import Crew
from tracker.domain.type_registry import load_types
from workers.host import HostKind
from workers.fork_server import ForkServer

async def main(fork_server):
    await fork_server.open()
    crew = Crew(fork_server)
    host = await crew.host(HostKind({kind!r}))
    await crew.run(host, {name!r}, **{members!r})
    host.kill()
    await host.death
    await fork_server.close()

asyncio.run(main(ForkServer.fork(load_types(["tests.support.host_handlers"]))))
"""


async def written(kind: HostKind, name: str, **members: object) -> str:
    """What a host wrote until its attempt's outcome, when it is killed; its output is a pipe."""
    script = LOGGED.format(kind=kind.value, name=name, members=members)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return output.decode()


async def test_a_handler_that_blocks_the_loop_is_told_once_with_its_stack() -> None:
    told = await written(COROUTINE, "blocking", seconds=2.2)
    assert told.count("loop_blocked") == 1
    assert "op-1" in told
    assert "time.sleep(operation.seconds)" in told


@pytest.mark.parametrize(("kind", "name"), [(COROUTINE, "ending"), (FUNCTION, "endingFunction")])
async def test_what_a_handler_printed_is_out_before_its_outcome(kind: HostKind, name: str) -> None:
    assert "printed by a handler" in await written(kind, name, how="print")
