"""Fixtures that everything shares: one private server for the session, emptied before each test."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from tests.support.clock import Clock
from tests.support.leaks import leaks
from tracker.config import Settings
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.store import Store

TOKENS = "\n".join(
    f"{name}:{name}:{hashlib.sha256(f'{name}-token'.encode()).hexdigest()}" for name in ("test", "other")
)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private server with an append-only file, as `tracker dev` starts it."""
    server = start_server(tmp_path_factory.mktemp("valkey"))
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def redis_url(server_url: str) -> Iterator[str]:
    """The session's server, empty; afterwards it may hold only keys that the page of keys knows."""
    with BlockingRedis.from_url(server_url) as redis:
        redis.flushall()
        yield server_url
        assert not (leaked := leaks(redis)), leaked


@pytest.fixture
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings over that server, also for processes and `load()` in the test."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRACKER_TOKENS", TOKENS)
    monkeypatch.setenv("TRACKER_TEST_CLOCK", "1")
    monkeypatch.setenv("TRACKER_MEDIA_DIR", str(tmp_path))
    monkeypatch.delenv("TRACKER_TYPES", raising=False)
    return Settings()


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as client:
        yield client


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Store:
    return Store(redis, settings)


@pytest.fixture
def clock(redis: Redis, store: Store) -> Clock:
    """Moves the server's time as the scripts read it."""
    return Clock(redis, store.keys.clock)
