"""Limits of the number of connections: health probes and other clients are served while one client holds many."""

import asyncio
import resource
from contextlib import AsyncExitStack

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.support.api_client import COLLECTION, Streams, open_api
from tests.support.waiting import eventually, soon
from tracker.api import connection_limits, slow_clients
from tracker.config import Settings

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def status_of(streams: Streams, request: bytes = HEALTH) -> int:
    """Send a request; the status of the response."""
    reader, writer = streams
    writer.write(request)
    return int((await soon(reader.readline())).split()[1])


async def test_connections_over_the_limit_are_refused_and_probes_are_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "SPARE", 2)
    monkeypatch.setattr(slow_clients, "PROBE_SECONDS", 3600.0)
    request = f"GET {COLLECTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n\r\n".encode()
    async with open_api(settings, connections=3, connections_per_address=100) as api, AsyncExitStack() as stack:
        for _ in range(3):
            assert await status_of(await stack.enter_async_context(api.connected()), request) == 200
        async with api.connected() as spare:
            assert await status_of(spare) == 200
            assert b"\r\nConnection: close\r\n" in await soon(spare[0].read())
        async with api.connected() as spare:
            assert await status_of(spare, request) == 503
            rest = await soon(spare[0].read())
            assert b"Retry-After: 5\r\n" in rest
            assert b'"code":"serviceUnavailable"' in rest
        async with api.connected(), api.connected(), api.connected() as refused:  # the first two are spare ones
            answer = await soon(refused[0].read())
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 5\r\n" in answer

        await stack.aclose()

        async def has_room() -> bool:
            async with api.connected() as again:
                return await status_of(again, request) == 200

        await eventually(has_room)


async def test_one_address_cannot_take_the_connections_of_others(settings: Settings) -> None:
    async with open_api(settings, connections=10, connections_per_address=2) as api, AsyncExitStack() as stack:
        for _ in range(2):
            assert await status_of(await stack.enter_async_context(api.connected())) == 200
        async with api.connected() as refused:
            assert (await soon(refused[0].read())).startswith(b"HTTP/1.1 503 ")
        async with api.connected(local_addr=("127.0.0.2", 0)) as other:
            assert await status_of(other) == 200


async def test_requests_through_a_trusted_proxy_count_for_the_address_of_their_client(
    settings: Settings, held: asyncio.Event
) -> None:
    changes = {"connections_per_address": 1, "trusted_proxies": ("127.0.0.1",)}
    async with open_api(settings, **changes) as api:
        operation = await api.created()
        url = f"{COLLECTION}/{operation['id']}"
        etag = (await api.get(url)).headers["ETag"]
        waits = {"Prefer": "wait=30", "If-None-Match": etag, "X-Forwarded-For": "192.0.2.1"}
        waiting = asyncio.create_task(api.get(url, headers=waits))
        await soon(held.wait())
        assert (await api.get(url, headers={"X-Forwarded-For": "192.0.2.1"})).status == 503
        assert (await api.get(url, headers={"X-Forwarded-For": "192.0.2.2"})).status == 200
        assert (await api.get(url)).status == 200  # the proxy's own request
        await api.post(f"{url}/cancel")
        assert (await soon(waiting)).status == 200
        assert (await api.get(url, headers={"X-Forwarded-For": "192.0.2.1"})).status == 200


async def test_requests_in_a_batch_are_not_counted_again(settings: Settings) -> None:
    async with open_api(settings, connections_per_address=1, trusted_proxies=("127.0.0.1",)) as api:
        requests = [{"id": str(number), "method": "GET", "url": COLLECTION} for number in range(5)]
        answer = await api.post("/$batch", json={"requests": requests}, headers={"X-Forwarded-For": "192.0.2.1"})
        assert [each["status"] for each in answer.json["responses"]] == [200] * 5


async def test_refused_connections_are_logged_in_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "TICK", 0.02)
    with capture_logs() as logs:
        async with open_api(settings, connections_per_address=1) as api, api.connected() as first:
            assert await status_of(first) == 200
            for _ in range(5):
                async with api.connected() as refused:
                    await soon(refused[0].read())

            async def is_logged() -> bool:
                return any(each["event"] == "connections_refused" for each in logs)

            await eventually(is_logged)
    assert len([each for each in logs if each["event"] == "connections_refused"]) == 1


async def test_the_limit_is_lower_where_a_process_may_open_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    limits = connection_limits.ConnectionLimits(Settings())
    assert limits.total + connection_limits.SPARE + limits.backlog < 256
    assert limits.total >= 100


async def test_a_process_raises_its_limit_of_open_files_as_far_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1_048_576))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    limits = connection_limits.ConnectionLimits(Settings(connections=5000))
    assert limits.total == 5000
    assert [5000 + connection_limits.BACKLOG < soft < 10_000 for soft, _ in raised] == [True]


async def test_a_server_stops_in_the_presence_of_clients_that_send_half_a_request(settings: Settings) -> None:
    parts = (
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    )
    async with AsyncExitStack() as stack, open_api(settings) as api:
        for part in parts * 5:
            _, writer = await stack.enter_async_context(api.connected())
            writer.write(part)
        async with aiohttp.ClientSession() as session, session.get(f"{api.url}/healthz") as answer:
            assert answer.status == 200
