"""The connection by which a worker receives control messages, over a network that loses connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import eventually, soon
from tracker.config import Settings
from tracker.events import subscriber
from tracker.events.hub import EventHub
from tracker.runtime.background import beside, end
from tracker.runtime.budgets import Budgets
from tracker.store.connection import open_redis
from tracker.store.store import Store
from workers.control import Control, ControlActions


class Network:
    """Between a client and a server; `lose` makes it forget the connections it has, and tell nobody."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[asyncio.Task[None]] = []
        self._open: list[asyncio.StreamWriter] = []
        self.connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        server, to_server = await asyncio.open_unix_connection(self._path)
        self._open += [writer, to_server]
        lines = [asyncio.create_task(carry(reader, to_server)), asyncio.create_task(carry(server, writer))]
        self._lines += lines
        with suppress(asyncio.CancelledError):
            await asyncio.wait(lines)

    async def lose(self) -> None:
        await end(*self._lines)

    async def close(self) -> None:
        await self.lose()
        for writer in self._open:
            writer.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def network(settings: Settings, tmp_path: Path) -> AsyncIterator[Network]:
    between = Network(urlsplit(settings.redis_url).path)
    server = await asyncio.start_unix_server(between.connected, tmp_path / "between.sock")
    yield between
    server.close()
    await between.close()


class Heard(list[str]):
    """What came of what was published."""

    def actions(self) -> ControlActions:
        return ControlActions(
            wake=lambda: self.append("wake"),
            cancel=lambda key, attempt: self.append(f"cancel {key} {attempt}"),
            shut_down=lambda: self.append("shut down"),
            catch_up=lambda: self.append("missed"),
        )

    def has(self, word: str, *, times: int = 1) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return self.count(word) >= times

        return check


async def test_a_connection_that_is_silently_lost_is_noticed_and_replaced(
    store: Store, settings: Settings, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "CHECK_EVERY", 0.3)
    mine = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/between.sock"})
    heard = Heard()
    channel = store.keys.control("w")
    async with open_redis(mine) as redis:
        listener = Control(Store(redis, mine), heard.actions(), worker="w", rq_channel="rq:pubsub:w")
        async with beside(listener.run()):
            await eventually(heard.has("missed", times=3))
            await store.redis.publish(channel, "cancel a 1")
            await eventually(heard.has("cancel a 1"))
            before = network.connections
            await network.lose()
            heard.clear()
            await eventually(heard.has("missed", times=3))
            await store.redis.publish(channel, "cancel b 1")
            await eventually(heard.has("cancel b 1"))
            assert network.connections > before


async def test_a_feed_whose_connection_is_silently_lost_wakes_every_waiter(
    settings: Settings, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "CHECK_EVERY", 0.3)
    mine = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/between.sock"})
    async with open_redis(mine) as redis:
        events = EventHub(redis, "tracker:events", Budgets(Settings()))
        async with beside(events.run()):
            await soon(events.subscribed.wait())
            with events.changes.next_change("a") as change:
                await network.lose()
                await soon(change.arrived)


async def test_a_connection_on_which_nothing_happens_is_kept(
    store: Store, settings: Settings, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "CHECK_EVERY", 0.05)
    mine = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/between.sock"})
    heard = Heard()
    async with open_redis(mine) as redis:
        listener = Control(Store(redis, mine), heard.actions(), worker="w", rq_channel="rq:pubsub:w")
        async with beside(listener.run()):
            await eventually(heard.has("missed", times=3))
            asked = int((await store.redis.info("commandstats"))["cmdstat_ping"]["calls"])

            async def asked_ten_times() -> bool:
                return int((await store.redis.info("commandstats"))["cmdstat_ping"]["calls"]) > asked + 10

            await eventually(asked_ten_times)
            await store.redis.publish(store.keys.control("w"), "cancel a 1")
            await eventually(heard.has("cancel a 1"))
    assert network.connections == 1
    assert heard.count("missed") == 3
