"""Processes under test: a Valkey, two APIs and three workers. A process that dies is started again."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from signal import SIGKILL, SIGTERM
from time import monotonic

import aiohttp
import structlog

from chaos.history import FAKETIME
from chaos.hostile import token_lines
from chaos.journal import EVENTS, Journal
from chaos.process import ORDERS
from tracker.runtime.dev_valkey import PrivateServer
from tracker.runtime.processes import Child, Supervisor

VALKEY = "valkey"
CLOCK = "clock"
"""Name of the file that says how far the server's clock is ahead."""
WORKERS = ("worker-1", "worker-2", "worker-3")
APIS = ("api-1", "api-2")
SHIFTS = {"api-2": 5.0, "worker-3": -5.0}
"""Seconds by which a process's wall clock is shifted. All other clocks are right."""
CONCURRENCY, PROCESSES, APART = 40, 2, 20
"""How many coroutines, plain functions, and operations that run apart each worker runs at once."""
PORTS = range(20_000, 30_000)
"""Ports of the APIs. Linux takes ports above 32,768 for outgoing connections, so a port is still free when its API is
started again after a kill."""
READY_WITHIN = 60.0
"""The longest time in seconds until all processes are ready."""
POLL = 0.05
"""Seconds between two requests for readiness."""
DRAIN = 5.0
"""The workers' TRACKER_DRAIN_SECONDS."""
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running processes. `urls` are the addresses of the APIs."""

    keeper: Supervisor
    server: PrivateServer
    urls: Sequence[str]
    directory: Path

    def pid(self, name: str) -> int | None:
        """The pid of the process with that name, or None if no such process is alive."""
        return self.keeper.pids.get(name)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Stack]:
    """Start all processes, yield when they are ready, and stop them at the end.

    Their output goes to `output.log` in the directory. Raises TimeoutError when they are not ready in time.
    """
    events = Journal(directory / EVENTS)
    (directory / ORDERS).mkdir()
    server = PrivateServer(directory / "data")
    server.prepare()
    ports = {name: free_port() for name in APIS}
    with (directory / "output.log").open("w") as output:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(output))
        keeper = Supervisor(
            [
                Child(VALKEY, server.argv(), _clock(directory)),
                *_apis(directory, server.url, ports),
                *_workers(directory, server.url),
            ],
            on_line=lambda name, line: print(f"{monotonic():.3f} {name}: {line}", file=output, flush=True),
            on_start=lambda name, pid: events.write(event="start", target=name, pid=pid, t=monotonic()),
            backoff_cap=0.5,
        )
        keeper.start(VALKEY)
        running = asyncio.create_task(keeper.run())
        try:
            stack = Stack(keeper, server, [f"http://127.0.0.1:{port}" for port in ports.values()], directory)
            await asyncio.wait_for(ready(stack.urls), READY_WITHIN)
            yield stack
        finally:
            await keeper.stop([(0, SIGTERM), (2 * DRAIN, SIGKILL)], only=WORKERS + APIS)
            await keeper.stop([(0, SIGTERM), (DRAIN, SIGKILL)])
            await running


def set_clock(directory: Path, ahead: float) -> None:
    """Let the server's clock be so many seconds ahead of the true time from now on."""
    new = directory / f"{CLOCK}.new"
    new.write_text(f"{ahead:+.3f}\n")
    new.rename(directory / CLOCK)


def _clock(directory: Path) -> dict[str, str]:
    """The environment by which the server's clock is read from a file, if that can be done here."""
    if FAKETIME is None:
        return {}
    set_clock(directory, 0.0)
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(directory / CLOCK),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _apis(directory: Path, redis: str, ports: dict[str, int]) -> list[Child]:
    return [
        Child(name, _argv(name, "serve"), {**environment(directory, redis, name), "TRACKER_PORT": str(port)})
        for name, port in ports.items()
    ]


def _workers(directory: Path, redis: str) -> list[Child]:
    size = ("--processes", str(PROCESSES), "--concurrency", str(CONCURRENCY))
    room = {"TRACKER_WORKER_APART": str(APART)}
    return [Child(name, _argv(name, "worker", *size), environment(directory, redis, name) | room) for name in WORKERS]


def _argv(name: str, *command: str) -> tuple[str, ...]:
    shift = str(SHIFTS.get(name, 0.0))
    return (sys.executable, "-m", "chaos.process", f"--clock-shift={shift}", *command)


def environment(directory: Path, redis: str, name: str) -> dict[str, str]:
    """The environment of a process with that name, beside what the harness inherits."""
    return {
        "CHAOS_DIR": str(directory),
        "CHAOS_PROCESS": name,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": redis,
        "TRACKER_DRAIN_SECONDS": str(DRAIN),
        "TRACKER_HOST": "127.0.0.1",
        "TRACKER_TOKENS": token_lines(),
        "TRACKER_SPOOL_DIR": str(directory / "spool"),
        "TRACKER_TYPES": "chaos.types",
    }


async def ready(urls: Iterable[str]) -> None:
    """Wait until the APIs at these addresses are ready."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for url in urls:
            while not await _answers(session, f"{url}/readyz"):  # noqa: ASYNC110 - only another request can tell
                await asyncio.sleep(POLL)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(url) as answer:
            return answer.status == HTTPStatus.OK
    return False


def free_port() -> int:
    """A port of PORTS that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
