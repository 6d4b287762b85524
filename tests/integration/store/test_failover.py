"""Failovers: by Sentinel after the master was killed, and behind a proxy with the old master as a replica."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.handler_files import began, let_go, text_of
from tests.support.waiting import eventually
from tests.support.worker_processes import create, final, now, running_worker
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.errors import Unavailable
from tracker.runtime.dev_valkey import RunningServer, find_server, start_server
from tracker.runtime.processes import die_with_parent
from tracker.store.address_check import why_unusable
from tracker.store.connection import open_blocking, open_redis
from tracker.store.store import Store

MASTER = "contoso"
PASSWORD = "p@ss/word"
PASSWORD_IN_URL = "p%40ss%2Fword"
SENTINEL = """
bind 127.0.0.1
port {port}
dir {directory}
sentinel monitor {name} 127.0.0.1 {master} 1
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 2000
"""


@dataclass(frozen=True)
class Pair:
    """Two servers; the second is a replica of the first to begin with."""

    servers: tuple[RunningServer, RunningServer]
    ports: tuple[int, int]
    stores: tuple[Store, Store]

    async def in_step(self, master: int = 0) -> None:
        """Wait until the replica has all that its master has."""

        async def check() -> bool:
            first, second = [await self.stores[index].redis.info("replication") for index in (master, 1 - master)]
            offsets = (first["master_repl_offset"], second.get("slave_repl_offset"))
            return bool(second.get("master_link_status") == "up" and offsets[0] == offsets[1])

        await eventually(check)


@pytest.fixture
async def pair(settings: Settings, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[Pair]:
    ports = (unused_tcp_port_factory(), unused_tcp_port_factory())
    async with AsyncExitStack() as stack:
        servers, stores = [], []
        for port in ports:
            server = await asyncio.to_thread(start_server, tmp_path / f"server-{port}", port=port, appendfsync="no")
            stack.push_async_callback(asyncio.to_thread, server.stop)
            servers.append(server)
            await secured(server)
            url = server.url.replace("unix://", f"unix://:{PASSWORD_IN_URL}@")
            mine = settings.model_copy(update={"redis_url": url})
            stores.append(Store(await stack.enter_async_context(open_redis(mine)), mine))
        both = Pair((servers[0], servers[1]), ports, (stores[0], stores[1]))
        await stores[1].redis.replicaof("127.0.0.1", str(ports[0]))
        await both.in_step()
        yield both


async def secured(server: RunningServer) -> None:
    """Give it a password, and no delay before it sends its data to a replica."""
    async with Redis.from_url(server.url) as redis:
        await redis.config_set("repl-diskless-sync-delay", 0)
        await redis.config_set("masterauth", PASSWORD)
        await redis.config_set("requirepass", PASSWORD)


@asynccontextmanager
async def sentinel(directory: Path, port: int, master: int) -> AsyncIterator[None]:
    """A Sentinel that knows the master and its replica."""
    conf = directory / "sentinel.conf"
    conf.write_text(SENTINEL.format(port=port, directory=directory, name=MASTER, master=master, password=PASSWORD))
    process = await asyncio.create_subprocess_exec(
        *(find_server(), str(conf), "--sentinel"),
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=partial(die_with_parent, parent=os.getpid()),
    )
    try:
        async with Redis(port=port, decode_responses=True) as asked:

            async def knows_both() -> bool:
                with suppress(RedisConnectionError):
                    masters: Any = await asked.sentinel_masters()
                    return bool(masters[MASTER]["num-slaves"] == 1)
                return False

            await eventually(knows_both)
            yield
    finally:
        process.kill()
        await process.wait()


class Proxy:
    """Forwards every new connection to where `target` says then, as a name or a load balancer does."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen; the port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer, self.target))
        self._tasks.add(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        above, below = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(pump(reader, below)), asyncio.ensure_future(pump(above, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            below.close()
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def patiently(store: Store, record: Record) -> Record:
    """The record, as soon as it can be read and is final."""

    async def ended() -> Record | None:
        with suppress(Unavailable):
            found = await now(store, record)
            return found if found.status.final else None
        return None

    return await eventually(ended)


def created(store: Store) -> Callable[[], Awaitable[Record | None]]:
    """To wait for with `eventually`: an operation that the store took."""

    async def check() -> Record | None:
        with suppress(Unavailable):
            return await create(store, "waits")
        return None

    return check


def port_of(client: BlockingRedis) -> Callable[[], Awaitable[int | None]]:
    """To wait for with `eventually`: the port of the server that the client reaches."""

    async def check() -> int | None:
        with suppress(RedisConnectionError):
            about: Any = await asyncio.to_thread(client.info, "server")
            return int(about["tcp_port"])
        return None

    return check


async def test_operations_that_run_during_a_failover_of_sentinel_end_once_and_uncharged(
    pair: Pair, settings: Settings, tmp_path: Path, unused_tcp_port: int
) -> None:
    url = f"sentinel://:{PASSWORD_IN_URL}@127.0.0.1:1,127.0.0.1:{unused_tcp_port}/{MASTER}/0"
    mine = settings.model_copy(update={"redis_url": url})
    async with (
        sentinel(tmp_path, unused_tcp_port, pair.ports[0]),
        open_redis(mine) as redis,
        running_worker(tmp_path, url=url) as worker,
    ):
        store = Store(redis, mine)
        before = await create(store, "waits")
        let_go(tmp_path, before)
        assert (await final(store, before)).status is OperationStatus.COMPLETED
        records = [await create(store, kind) for kind in ("waits", "works")]
        for record in records:
            await began(tmp_path, record)
        await pair.in_step()

        pair.servers[0].process.kill()
        let_go(tmp_path, *records)
        for record in records:
            await text_of(tmp_path / f"{record.id}.ended.1")
        for record in records:
            ended = await patiently(store, record)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)

        assert (await now(pair.stores[1], before)).status is OperationStatus.COMPLETED
        later = await eventually(created(store))
        await began(tmp_path, later)
        await store.apply(lifecycle.request_cancel(await now(store, later)))
        assert (await final(store, later)).canceled
        with open_blocking(mine) as client:
            assert await eventually(port_of(client)) == pair.ports[1]
        assert worker.process.returncode is None
        assert not worker.logged("background_task_died")


async def test_a_client_whose_server_became_a_replica_finds_the_new_master(
    pair: Pair, settings: Settings, tmp_path: Path
) -> None:
    proxy = Proxy(pair.ports[0])
    async with proxy.listening() as port:
        url = f"redis://:{PASSWORD_IN_URL}@127.0.0.1:{port}/0"
        mine = settings.model_copy(update={"redis_url": url})
        async with open_redis(mine) as redis, running_worker(tmp_path, url=url) as worker:
            store = Store(redis, mine)
            for old, new in ((0, 1), (1, 0)):
                records = [await create(store, kind) for kind in ("waits", "works")]
                for record in records:
                    await began(tmp_path, record)
                await asyncio.gather(*(now(store, record) for record in records * 4))  # opens connections
                await pair.in_step(old)
                await pair.stores[new].redis.replicaof("NO", "ONE")
                await pair.stores[old].redis.replicaof("127.0.0.1", str(pair.ports[new]))
                proxy.target = pair.ports[new]

                records.append(await create(store, "waits"))
                let_go(tmp_path, *records)
                for record in records:
                    ended = await final(store, record)
                    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
                await eventually(left(pair.stores[old]))
                await pair.in_step(new)
            assert worker.process.returncode is None
            assert not worker.logged("background_task_died")


def left(store: Store) -> Callable[[], Awaitable[bool]]:
    """To wait for with `eventually`: nobody sends commands to that server through the proxy."""

    async def check() -> bool:
        clients = await store.redis.client_list(_type="normal")
        return not [client for client in clients if client["addr"].startswith("127.0.0.1:")]

    return check


async def test_without_a_sentinel_that_answers_the_store_is_unavailable_and_says_so_in_few_words(
    settings: Settings,
) -> None:
    mine = settings.model_copy(update={"redis_url": "sentinel://:secret@127.0.0.1:1/contoso"})
    async with open_redis(mine) as redis:
        with pytest.raises(Unavailable) as raised:
            await Store(redis, mine).read(["0" * 32])
    words = "no Sentinel answers that it has a master contoso that is up"
    assert str(raised.value.__cause__) == words
    assert why_unusable(mine) == words
