"""Fixtures of tests that run the API or hosts, and of those that take Redis away."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.api_client import Api, open_api
from tests.support.executors import registry
from tests.support.processes import alive
from tests.support.redis_servers import Server, own_server
from tracker.config import Settings
from tracker.log import configure
from workers.fork_server import ForkServer


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The API, with the test's settings."""
    async with open_api(settings) as api:
        yield api


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where handlers say what they do, and are told to go on."""
    monkeypatch.setenv("TEST_HANDLERS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def fork_server(request: pytest.FixtureRequest, directory: Path) -> Iterator[ForkServer]:
    """Forked before the test's loop runs, as it should be; it has the TYPES of the test's module."""
    assert directory.is_dir()
    configure(Settings(log_format="json"))
    fork_server = ForkServer.fork(registry(*request.module.TYPES))
    yield fork_server
    assert not alive(fork_server.pid)


@pytest.fixture
async def away(settings: Settings, tmp_path: Path) -> AsyncIterator[Server]:
    """A server that a test can take away."""
    async with own_server(tmp_path / "server", settings) as server:
        yield server


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool directory of the workers that a test starts."""
    monkeypatch.setenv("TRACKER_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "spool"
