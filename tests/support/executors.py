"""Engines without Redis, workers as processes, and a server of one's own to take away from them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.support.records import make_record
from tests.support.waiting import eventually
from tracker.config import Settings
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import REGISTRY, TypeRegistry
from tracker.runtime.background import beside
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.store import Store
from workers.completion import Completion
from workers.executor import Executor, kinds_of
from workers.fork_server import ForkServer
from workers.pool import PoolSize

ROOT = Path(__file__).parents[2]
TRACKER = ("-m", "tracker.cli.main", "worker", "--processes", "1")
BY_RQ = ("-m", "rq.cli", "worker", "--worker-class", "workers.OperationWorker", "--quiet")


def one_ticket(record: Record) -> tuple[str, ...]:
    """What RQ's own worker has its work horse do."""
    return "-c", f"from workers.job import run_ticket; run_ticket('{record.key}-{record.ticket}', worker='stock/1')"


def registry(*names: str) -> TypeRegistry:
    """Types of engine_types, which need not be loaded for anybody else."""
    import tests.support.commanded_types  # noqa: F401, PLC0415 - it fills the registry of all types

    chosen = TypeRegistry()
    for name in names:
        chosen.add(REGISTRY[f"executor.{name}"])
    return chosen


def running_record(kind: str, **policy: Any) -> Record:
    """A record as a claim gives it."""
    return make_record(type=f"#executor.{kind}", stage=Stage.RUNNING, attempt=1, ticket=1, policy=Policy(**policy))


class Endings(dict[str, Completion]):
    """What an executor has ended, by the operation's id."""

    def put(self, ending: Completion) -> None:
        assert ending.record.id not in self, "an attempt ends once"
        self[ending.record.id] = ending

    async def of(self, record: Record, *, within: float = 15.0) -> Completion:
        async def ended() -> Completion | None:
            return self.get(record.id)

        return await eventually(ended, within=within)


@asynccontextmanager
async def running_engine(
    fork_server: ForkServer, types: TypeRegistry, size: PoolSize
) -> AsyncIterator[tuple[Executor, Endings]]:
    """An executor over that fork_server, which is gone afterwards with all its hosts."""
    endings = Endings()
    await fork_server.open()
    executor = Executor(fork_server, kinds_of(types), size, worker="w", on_completion=endings.put)
    await executor.pool.open()
    try:
        async with beside(executor.watch()):
            yield executor, endings
    finally:
        await executor.pool.close()
        await fork_server.close()


async def began(directory: Path, record: Record) -> int:
    """Wait until its handler has begun; the pid of its host."""
    return int(await told(directory / f"{record.id}.began"))


async def told(path: Path, *, within: float = 15.0) -> str:
    """What is in a file, as soon as it is there."""

    async def there() -> bool:
        return exists(path)

    await eventually(there, within=within)
    return path.read_text()  # noqa: ASYNC240 - a small file


def exists(path: Path) -> bool:
    return path.exists()


def let_go(directory: Path, *records: Record) -> None:
    """Let handlers that wait go on; all, when none is named."""
    for name in [record.id for record in records] or ["all"]:
        (directory / f"{name}.go").touch()


def spooled(spool: Path) -> list[list[str]]:
    """The outcomes on disk."""
    lines: list[str] = []
    for file in spool.glob("*"):
        with suppress(FileNotFoundError):  # its outcomes have been written meanwhile
            lines += file.read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def spools(spool: Path, count: int) -> Callable[[], Awaitable[bool]]:
    """To wait for with `eventually`: so many outcomes are on disk."""

    async def check() -> bool:
        return len(spooled(spool)) == count

    return check


async def gone(pid: int) -> None:
    """Wait until there is no such process, or only its exit status is left."""

    async def ended() -> bool:
        return not alive(pid)

    await eventually(ended)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


class Worker:
    """A worker process, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self._log = process, log

    def printed(self) -> str:
        return self._log.read_text()

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = self.printed().splitlines()
        return [line for text in lines if text.startswith("{") and (line := json.loads(text))["event"] == event]

    async def says(self, event: str, *, within: float = 15.0) -> dict[str, Any]:
        """The first line of that event, as soon as it is there; fails when the worker ends before."""

        async def line() -> dict[str, Any] | None:
            for found in self.said(event):
                return found
            assert self.process.returncode is None, self.printed()[-3000:]
            return None

        return await eventually(line, within=within)

    async def ends(self, *, within: float = 20.0) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()


@asynccontextmanager
async def running_worker(
    directory: Path, *options: str, command: tuple[str, ...] = TRACKER, url: str = "", **environment: str
) -> AsyncIterator[Worker]:
    """A worker of the executor's types; killed at the end, if it still lives."""
    url = url or os.environ["REDIS_URL"]
    log = directory / f"worker-{token_hex(4)}.log"
    changes = {
        "TRACKER_TYPES": "tests.support.commanded_types",
        "TEST_HANDLERS_DIR": str(directory),
        "TRACKER_LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, *options),
            cwd=ROOT,
            env={**os.environ, **changes, "REDIS_URL": url, "RQ_REDIS_URL": url, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield Worker(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Server:
    """A Redis server that can be taken away and given back, with all its data; `store` is over it."""

    store: Store

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def start(self) -> None:
        self._running = await asyncio.to_thread(start_server, self._directory)
        self.url = self._running.url

    async def goes(self, how: str) -> None:
        match how:
            case "killed":
                self._running.process.kill()
                await asyncio.to_thread(self._running.process.wait)
            case "stopped":
                await asyncio.to_thread(self._running.stop)
            case "paused":
                self._running.process.send_signal(signal.SIGSTOP)
            case "read only":
                await self.store.redis.replicaof("127.0.0.1", "1")

    async def returns(self, how: str) -> None:
        match how:
            case "killed" | "stopped":
                await self.start()
            case "paused":
                self._running.process.send_signal(signal.SIGCONT)
            case "read only":
                await self.store.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def own_server(directory: Path, settings: Settings) -> AsyncIterator[Server]:
    """A server for one test."""
    server = Server(directory)
    await server.start()
    mine = settings.model_copy(update={"redis_url": server.url})
    try:
        async with open_redis(mine) as redis:
            server.store = Store(redis, mine)
            yield server
    finally:
        await server.returns("paused")
        await server.goes("stopped")


async def create(store: Store, kind: str, *, members: dict[str, Any] | None = None, **policy: Any) -> Record:
    record = make_record(type=f"#executor.{kind}", members=members or {}, policy=Policy(**policy))
    return (await store.create(record))[0]


async def now(store: Store, record: Record) -> Record:
    [found] = await store.read([record.key])
    return found


async def final(store: Store, record: Record, *, within: float = 15.0) -> Record:
    """The record, as soon as it is final."""

    async def ended() -> Record | None:
        found = await now(store, record)
        return found if found.status.final else None

    return await eventually(ended, within=within)


def reaches(store: Store, record: Record, stage: Stage) -> Callable[[], Awaitable[Record | None]]:
    """To wait for with `eventually`."""

    async def check() -> Record | None:
        found = await now(store, record)
        return found if found.stage is stage else None

    return check
