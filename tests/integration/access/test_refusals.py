"""What a process says that has too few permissions: it starts, serves what it can, and names what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from tests.support.acl_servers import ADMIN, AclServer, acl_server
from tests.support.api_client import COLLECTION, open_api
from tests.support.worker_processes import create, final, running_worker
from tracker import log
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.store.connection import open_redis
from tracker.store.permissions import is_refusal
from tracker.store.server_check import Level, judge, read_server, report
from tracker.store.store import Store

USER = "tracker-api"
USERS = ("tracker-api", "tracker-worker", "tracker-operator")


@pytest.fixture
def nothing_is_refused() -> None:
    """Here something is."""


@pytest.fixture
def limited(users: AclServer) -> Iterator[str]:
    """A user without the permission to write sorted sets; its REDIS_URL."""
    with users.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">limited", "~*", "&*", "+@all", "-zadd")
        try:
            yield users.url("limited", "limited")
        finally:
            admin.execute_command("ACL", "DELUSER", "limited")


async def test_a_process_that_may_not_ask_the_server_says_so_and_goes_on(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(settings.model_copy(update={"log_format": "json"}))
    async with open_redis(settings) as redis:
        await report(redis)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["check"], line["level"]) for line in told] == [
        ("server_unfit", "server", "warning"),
        ("server_unfit", "appendfsync", "warning"),
    ]
    assert "refuses INFO" in told[0]["advice"]


@pytest.mark.parametrize("user", USERS)
async def test_the_shipped_users_may_ask_what_the_checks_need(settings: Settings, tmp_path: Path, user: str) -> None:
    with acl_server(tmp_path / "server", dangerous=True) as server:
        async with open_redis(settings.model_copy(update={"redis_url": server.url(user)})) as redis:
            levels = {finding.check: finding.level for finding in judge(await read_server(redis))}
    unknown = {} if user == "tracker-operator" else {"appendfsync": Level.WARN}
    checks = ("version", "appendonly", "appendfsync", "maxmemory-policy", "memory")
    assert levels == dict.fromkeys(checks, Level.OK) | unknown


async def test_a_request_that_the_server_refuses_is_503_and_the_log_names_the_command(
    settings: Settings, limited: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = settings.model_copy(update={"redis_url": limited, "log_format": "json"})
    log.configure(limits)
    async with open_api(limits) as api:
        answer = await api.request("POST", COLLECTION, json={})
        assert (answer.status, answer.error["code"]) == (503, "serviceUnavailable")
        assert answer.headers["Retry-After"].isdecimal()
        assert (await api.request("GET", "/healthz")).status == 200
    refused = [line for line in capsys.readouterr().err.splitlines() if '"store_refuses"' in line]
    assert any("zadd" in line for line in refused)


async def test_a_worker_that_the_server_refuses_something_goes_on_when_it_is_allowed(
    store: Store, users: AclServer, limited: str, tmp_path: Path
) -> None:
    (tmp_path / "all.go").touch()
    record = await create(store, "waits")
    async with running_worker(tmp_path, url=limited) as worker:
        await worker.wait_for_log("store_refuses")
        with users.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "limited", "+zadd")
        assert (await final(store, record)).status is OperationStatus.COMPLETED


async def test_a_user_without_a_password_cannot_log_in(users: AclServer, settings: Settings) -> None:
    """The shipped file has no passwords: whoever forgets to add them gets no connection, and nobody else does."""
    with users.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "tracker-new", "on")
        rules = admin.acl_getuser("tracker-new")
        admin.execute_command("ACL", "DELUSER", "tracker-new")
    assert not rules["passwords"]
    assert "nopass" not in rules["flags"]
    assert settings.redis_url != users.url(ADMIN)


async def test_the_users_have_only_the_keys_of_the_tracker(settings: Settings, users: AclServer) -> None:
    with users.admin() as admin:
        for user in USERS:
            for command in (("SET", "other", "1"), ("GET", "other"), ("PUBLISH", "other", "1"), ("FLUSHALL",)):
                reply = admin.execute_command("ACL", "DRYRUN", user, *command)
                assert b"has no permissions" in reply, (user, command, reply)
            assert admin.execute_command("ACL", "DRYRUN", user, "SET", "tracker:lone_workers", "1") == b"OK"
        forging = ("HSET", "rq:worker:w", "state", "busy")
        assert b"no permissions" in admin.execute_command("ACL", "DRYRUN", "tracker-api", *forging)
    async with open_redis(settings) as redis:
        with pytest.raises(NoPermissionError) as caught:
            await redis.set("other", "1")
    assert is_refusal(caught.value)
