"""The processes under test: a Valkey, APIs and workers, all started again whenever they die."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from signal import SIGKILL, SIGTERM
from time import monotonic

import aiohttp
import structlog

from chaos.journal import EVENTS, Journal
from chaos.process import ORDERS
from tracker.runtime.dev_valkey import PrivateServer
from tracker.runtime.processes import Child, Supervisor

VALKEY = "valkey"
WORKERS = ("worker-1", "worker-2", "worker-3")
APIS = ("api-1", "api-2")
SHIFTS = {"api-2": 5.0, "worker-3": -5.0}
"""Seconds by which a process's clock is wrong."""
CONCURRENCY, PROCESSES = 40, 2
"""What each worker runs at once: coroutines, plain functions."""
PORTS = range(20_000, 30_000)
"""Below those that the system gives to outgoing connections, so that a port is still free after a kill."""
READY_WITHIN = 60.0
POLL = 0.05
DRAIN = 5.0
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running processes; `urls` are the APIs'."""

    keeper: Supervisor
    server: PrivateServer
    urls: Sequence[str]
    directory: Path

    def pid(self, name: str) -> int | None:
        """The process of that name, if it is there now."""
        return self.keeper.pids.get(name)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Stack]:
    """Start everything, yield it when it is ready, and stop it. What the processes write goes to `output.log`.

    Raises TimeoutError when it does not get ready.
    """
    events = Journal(directory / EVENTS)
    (directory / ORDERS).mkdir()
    server = PrivateServer(directory / "data")
    server.prepare()
    ports = {name: _free_port() for name in APIS}
    with (directory / "output.log").open("w") as output:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(output))
        keeper = Supervisor(
            [Child(VALKEY, server.argv()), *_apis(directory, server.url, ports), *_workers(directory, server.url)],
            on_line=lambda name, line: print(f"{monotonic():.3f} {name}: {line}", file=output, flush=True),
            on_start=lambda name, pid: events.write(event="start", target=name, pid=pid, t=monotonic()),
            backoff_cap=0.5,
        )
        keeper.start(VALKEY)
        running = asyncio.create_task(keeper.run())
        try:
            stack = Stack(keeper, server, [f"http://127.0.0.1:{port}" for port in ports.values()], directory)
            await asyncio.wait_for(_ready(stack), READY_WITHIN)
            yield stack
        finally:
            await keeper.stop([(0, SIGTERM), (2 * DRAIN, SIGKILL)], only=WORKERS + APIS)
            await keeper.stop([(0, SIGTERM), (DRAIN, SIGKILL)])
            await running


def _apis(directory: Path, redis: str, ports: dict[str, int]) -> list[Child]:
    return [
        Child(name, _argv(name, "serve"), {**_environment(directory, redis, name), "TRACKER_PORT": str(port)})
        for name, port in ports.items()
    ]


def _workers(directory: Path, redis: str) -> list[Child]:
    size = ("--processes", str(PROCESSES), "--concurrency", str(CONCURRENCY))
    return [Child(name, _argv(name, "worker", *size), _environment(directory, redis, name)) for name in WORKERS]


def _argv(name: str, *command: str) -> tuple[str, ...]:
    shift = str(SHIFTS.get(name, 0.0))
    return (sys.executable, "-m", "chaos.process", f"--clock-shift={shift}", *command)


def _environment(directory: Path, redis: str, name: str) -> dict[str, str]:
    return {
        "CHAOS_DIR": str(directory),
        "CHAOS_PROCESS": name,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": redis,
        "TRACKER_AUTH": "none",
        "TRACKER_DRAIN_SECONDS": str(DRAIN),
        "TRACKER_HOST": "127.0.0.1",
        "TRACKER_SPOOL_DIR": str(directory / "spool"),
        "TRACKER_TYPES": "chaos.types",
    }


async def _ready(stack: Stack) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for url in stack.urls:
            while not await _answers(session, f"{url}/readyz"):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(POLL)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(url) as answer:
            return answer.status == HTTPStatus.OK
    return False


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
