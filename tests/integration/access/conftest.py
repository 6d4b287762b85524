"""Fixtures that give the code under test a user of deploy/acl/users.acl, and the test itself every permission.

A module names the user in USER. After each test, the server may have refused nothing but what the module expects.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.support.acl_servers import ADMIN, AclServer, acl_server
from tracker.config import Settings
from tracker.store.connection import open_redis

EXPECTED = {"config|get", "info"}
"""Commands that are refused without `@dangerous`: a process then says at its start what it could not check."""


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclServer]:
    with acl_server(tmp_path_factory.mktemp("acl"), dangerous=False) as server:
        yield server


@pytest.fixture(scope="session")
def server_url(users: AclServer) -> str:
    """The server as the test sees it."""
    return users.url(ADMIN)


@pytest.fixture
def settings(
    settings: Settings, users: AclServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The server as the code under test sees it. The processes that a test starts are workers."""
    monkeypatch.setenv("REDIS_URL", users.url("tracker-worker"))
    return settings.model_copy(update={"redis_url": users.url(request.module.USER)})


@pytest.fixture
async def redis(settings: Settings, users: AclServer) -> AsyncIterator[Redis]:
    """The client of the test's own store."""
    async with open_redis(settings.model_copy(update={"redis_url": users.url(ADMIN)})) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_refused(users: AclServer) -> Iterator[None]:
    """Fail a test in which the code under test needs what the file does not allow."""
    users.refused()
    yield
    refused = {(user, kind, what) for user, kind, what in users.refused() if what not in EXPECTED}
    assert not refused, f"add this to deploy/acl/users.acl, if the user needs it: {refused}"
