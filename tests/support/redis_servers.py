"""A Redis server of one test, which the test can stop, pause, and start again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tracker.config import Settings
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.store import Store


class Server:
    """A Redis server that keeps its data while it is away. `store` is connected to it."""

    store: Store

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def start(self) -> None:
        self._running = await asyncio.to_thread(start_server, self._directory)
        self.url = self._running.url

    async def go_away(self, how: str) -> None:
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

    async def come_back(self, how: str) -> None:
        match how:
            case "killed" | "stopped":
                await self.start()
            case "paused":
                self._running.process.send_signal(signal.SIGCONT)
            case "read only":
                await self.store.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def own_server(directory: Path, settings: Settings) -> AsyncIterator[Server]:
    """Run a server for one test."""
    server = Server(directory)
    await server.start()
    mine = settings.model_copy(update={"redis_url": server.url})
    try:
        async with open_redis(mine) as redis:
            server.store = Store(redis, mine)
            yield server
    finally:
        await server.come_back("paused")
        await server.go_away("stopped")
