"""One measurement of a worker: tasks are enqueued while it is stopped, then it continues until all are done."""

import asyncio
import json
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.processes import ROOT, cpu_seconds, running, signal_tree
from benchmarks.ratios import NotMeasured
from benchmarks.trees import THIS, Tree
from tracker.runtime.dev_valkey import start_server

WARM_UP = 20
"""How many tasks each worker does first. When they are done, it has started and has imported what it needs."""
TYPES = "benchmarks.operations"
"""The module with the tracker's tasks."""
FROZEN = 1.0
"""The shortest time in seconds that a worker is stopped. A worker that polls is then due when it continues."""


class Unfinished(NotMeasured):
    """A system that did not do its tasks in time. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A system to measure: its module in `benchmarks.peers`, its variant, and for the tracker the checkout."""

    name: str
    module: str
    variant: str
    runs: str
    """A description of how its one worker runs tasks."""
    peer: bool = True
    tree: Tree = THIS

    @property
    def python(self) -> Path:
        """The interpreter: the checkout's for the tracker and RQ, else the one of the system's own environment."""
        environment = ROOT / ".venv-bench" / self.module
        return self.tree.python if self.module in {"tracker", "rq"} else environment / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Drain:
    """The result of one measurement.

    `cpu` is the worker's processor time in seconds, `server_cpu` the one of the Redis server. `stored` and `keys` are
    the bytes and keys per task that are left in Redis.
    """

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
    """The tasks of one measurement. `limit` is the longest time in seconds for each of its steps."""

    workload: str
    tasks: int
    appendfsync: str
    limit: float


class Driver:
    """A process that calls a system through the system's own client, for as long as the system's worker lives."""

    def __init__(self, process: asyncio.subprocess.Process, worker: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands, self._answers, self._worker = process.stdin, process.stdout, worker

    async def answer(self, within: float) -> dict[str, Any]:
        """Read the next answer. Raises Unfinished after `within` seconds, and when the worker or the driver ends."""
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


@dataclass(frozen=True, slots=True)
class System:
    """A system that runs: its driver, and the pids of its worker and of its Redis server."""

    driver: Driver
    worker: int
    server: int
    versions: Mapping[str, str]

    async def drain(self, load: Load) -> Drain:
        """Measure a drain: SIGSTOP stops the worker, the load is enqueued, and SIGCONT starts the time.

        The time ends when the last result is stored. Then all results are read and compared. Raises Unfinished.
        """
        seconds, cpu, server_cpu = await _time(self.driver, (self.worker, self.server), load)
        return Drain(load.tasks, seconds, cpu, server_cpu, 0, 0, self.versions)


@asynccontextmanager
async def started(entry: Entry, load: Load, redis_url: str, server: int) -> AsyncIterator[System]:
    """Start a system's worker and driver on a Redis server, and let the worker do a few tasks. Raises Unfinished."""
    if not entry.python.exists():
        raise Unfinished("the system is not installed; `make bench-workers` installs all systems")
    env = {"BENCH_URL": redis_url, "REDIS_URL": redis_url, "TRACKER_TYPES": TYPES, "TRACKER_LOG_LEVEL": "warning"}
    argv = [str(entry.python), "-m", "benchmarks.peers", entry.module, entry.variant, load.workload]
    async with (
        running(*argv, "worker", env=env, cwd=entry.tree.root) as worker,
        running(*argv, "driver", env=env, cwd=entry.tree.root, pipes=True) as process,
    ):
        driver = Driver(process, worker)
        versions = (await driver.answer(load.limit))["versions"]
        await _warm_up(driver, load.limit)
        yield System(driver, worker.pid, server, versions)


async def drain(entry: Entry, load: Load) -> Drain:
    """Measure one drain, on a server of its own, and what is left in Redis after both processes. Raises Unfinished."""
    async with fresh_server(load.appendfsync) as (redis, url, server):
        before = _stored(redis)
        async with started(entry, load, url, server) as system:
            one = await system.drain(load)
        after = _stored(redis)
    stored, keys = ((now - then) / (WARM_UP + load.tasks) for now, then in zip(after, before, strict=True))
    return replace(one, stored=stored, keys=keys)


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
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stored(redis: "Redis") -> tuple[int, int]:
    """Bytes and keys."""
    return int(redis.info("memory")["used_memory"]), int(redis.dbsize())


@asynccontextmanager
async def fresh_server(appendfsync: str) -> AsyncIterator[tuple["Redis", str, int]]:
    """Run an empty private Valkey on a port of 127.0.0.1. Yields a client, its URL and its pid.

    Both trees of a comparison get this tree's server with this tree's options.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        server = start_server(Path(directory), port=port, appendfsync=appendfsync)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            with Redis.from_url(url) as redis:
                yield redis, url, server.pid
        finally:
            server.stop()
