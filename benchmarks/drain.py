"""One measurement: a worker that is up gets a load at one instant, and works it off."""

import asyncio
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.processes import ROOT, cpu_seconds, running, signal_tree
from tracker.runtime.dev_valkey import start_server

WARM_UP = 20
"""Tasks that each worker does first: when they are done, it is up and has imported what it needs."""
TYPES = "benchmarks.operations"
"""The module with our own tasks."""
FROZEN = 1.0
"""Seconds that a worker is stopped at least, so that every one that polls looks at its queue at once."""


class Unfinished(Exception):
    """A system that did not do what it was asked to in time; the message says what."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A system of the table: the module of `benchmarks.peers` that drives it, how, and where it is installed."""

    name: str
    module: str
    variant: str
    runs: str
    """How its one worker works, in words."""
    peer: bool = True

    @property
    def python(self) -> Path:
        """The interpreter of its own environment, or ours for what the project installs anyway."""
        environment = ROOT / ".venv-bench" / self.module
        return Path(sys.executable) if self.module in {"tracker", "rq"} else environment / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Drain:
    """What one drain took: seconds, processor seconds of worker and server, and what is left per task in Redis."""

    tasks: int
    seconds: float
    cpu: float
    server_cpu: float
    stored: float
    keys: float
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds


@dataclass(frozen=True, slots=True)
class Load:
    """What is drained: so many tasks of one workload, on a server that syncs its log so, within so many seconds."""

    workload: str
    tasks: int
    appendfsync: str
    limit: float


class Driver:
    """The process that talks to one system through its own client, while the system's worker lives."""

    def __init__(self, process: asyncio.subprocess.Process, worker: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands, self._answers, self._worker = process.stdin, process.stdout, worker

    async def answer(self, within: float) -> dict[str, Any]:
        """The next line. Raises Unfinished when it does not come within that many seconds, or the worker ends."""
        line, death = asyncio.ensure_future(self._answers.readline()), asyncio.ensure_future(self._worker.wait())
        await asyncio.wait({line, death}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not line.done():
            line.cancel()
            ended = self._worker.returncode is not None
            raise Unfinished("its worker ended" if ended else f"no answer within {within:.0f} s")
        if not line.result():
            raise Unfinished("its driver ended; what it wrote says why")
        answer: dict[str, Any] = json.loads(line.result())
        return answer

    async def ask(self, command: str, within: float) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.send(command)
        return await self.answer(within)

    def send(self, command: str) -> None:
        """Send a command."""
        self._commands.write(f"{command}\n".encode())


async def drain(entry: Entry, load: Load) -> Drain:
    """Measure one drain, on a server of its own. Raises Unfinished when it does not come to its end in time.

    The worker does a few tasks, is stopped by SIGSTOP, the load is enqueued, and the time runs from SIGCONT until
    the last result is there. Then all results are read and compared, everybody leaves, and what is stored is weighed.
    """
    if not entry.python.exists():
        raise Unfinished("it is not installed: `make bench-workers` does that")
    async with fresh_server(load.appendfsync) as (redis, url, server):
        before = _stored(redis)
        env = {"BENCH_URL": url, "REDIS_URL": url, "TRACKER_TYPES": TYPES, "TRACKER_LOG_LEVEL": "warning"}
        argv = [str(entry.python), "-m", "benchmarks.peers", entry.module, entry.variant, load.workload]
        async with (
            running(*argv, "worker", env=env) as worker,
            running(*argv, "driver", env=env, pipes=True) as process,
        ):
            driver = Driver(process, worker)
            versions = (await driver.answer(load.limit))["versions"]
            await _warm_up(driver, load.limit)
            seconds, cpu, server_cpu = await _time(driver, (worker.pid, server), load)
        after = _stored(redis)
    stored, keys = ((now - then) / (WARM_UP + load.tasks) for now, then in zip(after, before, strict=True))
    return Drain(load.tasks, seconds, cpu, server_cpu, stored, keys, versions)


async def _warm_up(driver: Driver, limit: float) -> None:
    await driver.ask(f"load {WARM_UP}", limit)
    warm = await driver.ask(f"watch {limit}", limit + 30)
    if warm["done"] < WARM_UP:
        raise Unfinished(f"its worker did not do {WARM_UP} tasks within {limit:.0f} s of its start")


async def _time(driver: Driver, processes: tuple[int, int], load: Load) -> tuple[float, float, float]:
    """Seconds that the load took, and processor seconds of the two processes: the worker and the server."""
    worker, _ = processes
    signal_tree(worker, signal.SIGSTOP)
    stopped = time.monotonic()
    await driver.ask(f"load {load.tasks}", load.limit)
    await asyncio.sleep(FROZEN + stopped - time.monotonic())
    before, begun = [cpu_seconds(pid) for pid in processes], time.monotonic()
    driver.send(f"watch {load.limit}")
    signal_tree(worker, signal.SIGCONT)
    end = await driver.answer(load.limit + 30)
    of_worker, of_server = (cpu_seconds(pid) - then for pid, then in zip(processes, before, strict=True))
    if end["done"] < load.tasks:
        raise Unfinished(f"{end['done']} of {load.tasks} done after {load.limit:.0f} s")
    proven = (await driver.ask("prove", load.limit))["proven"]
    if proven < load.tasks:
        raise Unfinished(f"only {proven} of {load.tasks} results are readable and right")
    return end["at"] - begun, of_worker, of_server


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stored(redis: "Redis") -> tuple[int, int]:
    """Bytes and keys."""
    return int(redis.info("memory")["used_memory"]), int(redis.dbsize())


@asynccontextmanager
async def fresh_server(appendfsync: str) -> AsyncIterator[tuple["Redis", str, int]]:
    """A private Valkey on a port of 127.0.0.1, for as long as the body runs: its client, URL and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        server = start_server(Path(directory), port=port, appendfsync=appendfsync)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            with Redis.from_url(url) as redis:
                yield redis, url, server.pid
        finally:
            server.stop()
