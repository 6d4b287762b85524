"""Handlers of a worker that was started at a terminal."""

import asyncio
import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from tests.support.hosts import COROUTINE
from tests.support.processes import ROOT
from tests.support.waiting import soon
from workers.host import HostKind

WORKER = """
import asyncio
from tests.support.hosts import HostClient
from tracker.domain.type_modules import load_types
from workers.fork_server import ForkServer
from workers.host import HostKind

async def main(fork_server):
    await fork_server.open()
    host_client = HostClient(fork_server)
    host = await host_client.host(HostKind({kind!r}))
    run_id = host_client.start(host, {name!r})
    print(await host_client.first_detail(run_id))
    await host_client.outcome(run_id)
    await fork_server.close()

asyncio.run(main(ForkServer.fork(load_types(["tests.support.host_types"]))))
"""


@pytest.fixture
def terminal() -> Iterator[int]:
    """The end of a terminal that a process opens. Nobody types at it."""
    ours, theirs = pty.openpty()
    yield theirs
    os.close(theirs)
    os.close(ours)


def control(terminal: int) -> None:
    """Make it the controlling terminal of this process, which leads a session."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("kind", HostKind)
async def test_a_handler_and_its_children_read_the_end_of_standard_input_and_not_the_terminal(
    terminal: int, kind: HostKind
) -> None:
    name = "reading" if kind is COROUTINE else "readingFunction"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER.format(kind=kind.value, name=name), cwd=ROOT, stdin=terminal,
        stdout=subprocess.PIPE, start_new_session=True, preexec_fn=lambda: control(terminal),
    )  # fmt: skip
    try:
        output, _ = await soon(worker.communicate())
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert output.decode().strip() == "'' b'' True"
