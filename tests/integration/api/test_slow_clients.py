"""Clients that send half a request, or do not read the response: their connections end, and others are served."""

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from tests.support.api_client import COLLECTION, open_api
from tests.support.waiting import eventually, soon
from tracker.api import slow_clients
from tracker.config import Settings

TOKEN = "Host: x\r\nAuthorization: Bearer test-token\r\n"
HEAD = f"POST {COLLECTION} HTTP/1.1\r\n{TOKEN}Content-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "TICK", 0.02)
    monkeypatch.setattr(slow_clients, "GRACE", 0.2)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /heal", id="half a request line"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A", id="half the headers"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n", id="the headers without their end"),
    ],
)
async def test_headers_that_do_not_end_are_answered_408(settings: Settings, sent: bytes) -> None:
    async with open_api(settings, header_timeout=0.1) as api, api.connected() as (reader, writer):
        writer.write(sent)
        answer = (await soon(reader.read())).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 408 Request Timeout\r\n")
    assert re.search(r"\r\nrequest-id: [0-9a-f-]{36}(\r\n|$)", head)
    assert "\r\nConnection: close" in head
    assert f"\r\nContent-Length: {len(body)}\r\n" in head
    assert '"code":"requestTimeout"' in body


async def test_headers_after_another_request_have_a_time_limit_too(settings: Settings) -> None:
    async with open_api(settings, header_timeout=0.1) as api, api.connected() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await soon(reader.readline())).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET /heal")
        assert b"HTTP/1.1 408 " in await soon(reader.read())


async def test_a_connection_on_which_nothing_is_sent_is_closed(settings: Settings) -> None:
    async with open_api(settings, header_timeout=0.1) as api, api.connected() as (reader, _):
        await soon(reader.read())
        assert reader.at_eof()


async def test_an_idle_connection_is_closed(settings: Settings) -> None:
    async with open_api(settings, idle_timeout=1) as api, api.connected() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await soon(reader.read())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b" 408 " not in answer


@pytest.mark.parametrize(
    "start",
    [
        "Content-Length: 1000\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n10\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1",
    ],
    ids=["half a body", "half a chunk", "half the size of a chunk"],
)
async def test_a_body_that_does_not_end_is_answered_408(settings: Settings, start: str) -> None:
    async with open_api(settings) as api, api.connected() as (reader, writer):
        writer.write(f"{HEAD}{start}".encode())
        answer = await soon(reader.read())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert b'"code":"requestTimeout"' in answer


async def test_a_body_that_trickles_is_answered_408(settings: Settings) -> None:
    async with open_api(settings) as api, api.connected() as (reader, writer):
        writer.write(f"{HEAD}Content-Length: 100000\r\n\r\n{{".encode())

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        try:
            assert (await soon(reader.readline())).startswith(b"HTTP/1.1 408 ")
        finally:
            trickling.cancel()


async def test_a_slow_body_that_keeps_the_least_rate_is_read(settings: Settings) -> None:
    body = b'{"clientContext": "x"}' + b" " * 4000
    async with open_api(settings, least_rate=100) as api, api.connected() as (reader, writer):
        writer.write(f"{HEAD}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        for start in range(0, len(body), 100):
            writer.write(body[start : start + 100])
            await asyncio.sleep(2 * slow_clients.GRACE / 40)
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 201 ")


async def test_a_reader_that_does_not_read_is_cut_off_and_its_response_is_freed(settings: Settings) -> None:
    async with open_api(settings) as api:
        for _ in range(40):
            await api.created(filler="x" * 60_000)
        with capture_logs() as logs:
            async with api.connected() as (_, writer):
                request = f"GET {COLLECTION} HTTP/1.1\r\n{TOKEN}\r\n"
                writer.write(request.encode() * 20)
                await writer.drain()

                async def is_logged() -> bool:
                    return any(each["event"] == "slow_clients_ended" and each["response"] == 1 for each in logs)

                await eventually(is_logged)


async def test_a_held_wait_and_a_stream_have_no_time_limit(settings: Settings) -> None:
    async with open_api(settings, header_timeout=0.1, idle_timeout=1) as api, api.connected() as (reader, writer):
        operation = await api.created()
        etag = (await api.get(f"{COLLECTION}/{operation['id']}")).headers["ETag"]
        stream = (
            f"GET {COLLECTION}/{operation['id']}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n"
        )
        writer.write(f"{stream}\r\n".encode())
        assert (await soon(reader.readline())).startswith(b"HTTP/1.1 200 ")
        wait = {"Prefer": "wait=2", "If-None-Match": etag}
        assert (await api.get(f"{COLLECTION}/{operation['id']}", headers=wait)).status == 304
        await api.post(f"{COLLECTION}/{operation['id']}/cancel")
        await soon(reader.readuntil(b'"Failed"'))


async def test_slow_clients_are_logged_in_one_line(settings: Settings) -> None:
    with capture_logs() as logs:
        async with open_api(settings, header_timeout=0.1) as api, api.connected() as one, api.connected() as other:
            for reader, writer in (one, other):
                writer.write(b"GET /heal")
                await soon(reader.read())

            async def is_logged() -> bool:
                return any(each["event"] == "slow_clients_ended" for each in logs)

            await eventually(is_logged)
    [line] = [each for each in logs if each["event"] == "slow_clients_ended"]
    assert line["head"] >= 1
