"""The API while Redis is away and when it is back, and how `serve` starts and ends."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from yarl import URL

from tests.support.api_client import COLLECTION, Api, open_api
from tests.support.redis_servers import Server
from tests.support.waiting import LONGEST_WAIT
from tracker.api.app import serve
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.runtime.dev_valkey import start_server


async def is_unavailable(api: Api, method: str, path: str) -> bool:
    answer = await api.request(method, path, json={} if method == "POST" else None)
    return (answer.status, answer.error["code"], int(answer.headers["Retry-After"]) >= 1) == (
        *(503, "serviceUnavailable"),
        True,
    )


async def test_the_api_answers_503_while_redis_is_away_and_recovers(settings: Settings, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, tmp_path / "data")
    try:
        async with open_api(settings, redis_url=server.url) as api:
            operation = await api.created()
            path = f"{COLLECTION}/{operation['id']}"
            await asyncio.to_thread(server.stop)
            for method, address in (
                ("POST", COLLECTION),
                ("GET", COLLECTION),
                ("GET", path),
                ("DELETE", path),
                ("POST", f"{path}/cancel"),
                ("GET", f"/operations/{operation['id']}"),
                ("GET", "/readyz"),
            ):
                assert await is_unavailable(api, method, address)
            assert (await api.get("/healthz", token=None)).status == 200
            server = await asyncio.to_thread(start_server, tmp_path / "data")
            assert (await api.get("/readyz", token=None)).json == {"status": "ready"}
            assert (await api.get(path)).json["id"] == operation["id"]
            assert (await api.post(json={})).status == 201
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("option", "refusing", "word"),
    [("maxmemory", "1", "maxmemory"), ("min-replicas-to-write", "1", "does not accept")],
    ids=["at maxmemory", "with too few replicas"],
)
async def test_the_api_is_not_ready_while_redis_refuses_writes_and_serves_reads(
    settings: Settings, away: Server, option: str, refusing: str, word: str
) -> None:
    redis = away.store.redis
    async with open_api(settings, redis_url=away.url) as api:
        operation = await api.created(clientContext="x")
        path = f"{COLLECTION}/{operation['id']}"
        before = str((await redis.config_get(option))[option])
        await redis.config_set(option, refusing)
        for method, address in (("GET", "/readyz"), ("POST", COLLECTION)):
            answer = await api.request(method, address, json={} if method == "POST" else None)
            assert (answer.status, answer.error["code"]) == (503, "serviceUnavailable"), (method, address)
            assert word in answer.error["message"]
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await api.get("/healthz")).status == 200
        assert (await api.get(path)).json["clientContext"] == "x"
        assert [each["id"] for each in (await api.get(COLLECTION)).json["value"]] == [operation["id"]]
        await redis.config_set(option, before)
        assert (await api.get("/readyz")).json == {"status": "ready"}
        assert (await api.post(json={})).status == 201


@pytest.mark.parametrize(("share", "warns"), [(0.5, False), (0.95, True)])
async def test_readiness_tells_the_memory_and_warns_when_it_is_nearly_full(
    settings: Settings, away: Server, share: float, warns: bool
) -> None:
    redis = away.store.redis
    async with open_api(settings, redis_url=away.url) as api:
        assert (await api.get("/readyz")).json == {"status": "ready"}
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", round(used / share))
        answer = await api.get("/readyz")
        await redis.config_set("maxmemory", 0)
    assert answer.status == 200
    memory = answer.json["memory"]
    assert memory["limitBytes"] == round(used / share)
    assert 0 < memory["usedBytes"] < memory["limitBytes"]
    assert ("nearly full" in answer.json.get("warning", "")) is warns


async def test_readiness_has_figures_when_the_memory_is_full(settings: Settings, away: Server) -> None:
    async with open_api(settings, redis_url=away.url) as api:
        await away.store.redis.config_set("maxmemory", 1_000_000)
        answer = await api.get("/readyz")
        await away.store.redis.config_set("maxmemory", 0)
    assert answer.status == 503
    assert "of 1.0 MiB" in answer.error["message"]


async def test_the_api_starts_while_redis_is_away(settings: Settings, tmp_path: Path) -> None:
    async with open_api(settings, redis_url=f"unix://{tmp_path}/nobody.sock") as api:
        assert (await api.get("/healthz", token=None)).json == {"status": "ok"}
        assert await is_unavailable(api, "GET", "/readyz")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_tells_its_address_and_ends_on_a_signal(settings: Settings, number: signal.Signals) -> None:
    urls: list[str] = []

    def told(url: str) -> None:
        urls.append(url)
        os.kill(os.getpid(), number)

    async with asyncio.timeout(LONGEST_WAIT):
        await serve(settings.model_copy(update={"port": 0}), on_ready=told)
    assert URL(urls[0]).host == "127.0.0.1"
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", URL(urls[0]).port)


async def test_serve_does_not_start_without_tokens(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="tracker token"):
        await serve(settings.model_copy(update={"tokens": ""}))
