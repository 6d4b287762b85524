"""Fixtures of all tests: a registry of types for each test, and one private server, emptied before each test."""

import hashlib
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from tests.support.clock import Clock
from tests.support.key_leaks import leaks
from tracker.config import Settings
from tracker.domain.type_registry import TypeRegistry, separate_registry
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.store import Store

hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # no test asserts how long something takes
hypothesis.settings.load_profile("tests")

TOKENS = "\n".join(
    f"{name}:{name}:{hashlib.sha256(f'{name}-token'.encode()).hexdigest()}" for name in ("test", "other")
)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Import each test module with a registry of its own: which tests it has depends on no other module."""
    with separate_registry():
        return (yield)


@pytest.fixture(autouse=True)
def type_registry() -> Iterator[TypeRegistry]:
    """The registry that `handles` adds to and `load_types` fills during one test; it is empty at first."""
    with separate_registry() as registry:
        yield registry


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
