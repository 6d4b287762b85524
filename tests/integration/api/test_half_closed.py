"""Clients that close their half of the connection after a request, and still read (RFC 9112, 9.6)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_client import COLLECTION, Api
from tests.support.waiting import soon
from tracker.api import half_closed as handler
from tracker.service import Operations

HEAD = "HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n"
READ = f"GET {COLLECTION} {HEAD}\r\n".encode()
MONITOR = f"GET /operations/a {HEAD}\r\n".encode()
WAIT = f"GET {COLLECTION}/a {HEAD}Prefer: wait=3600\r\n\r\n".encode()
STREAM = f"GET /events {HEAD}\r\n".encode()


async def half_closed(api: Api, data: bytes) -> bytes:
    """All that comes after these bytes and the end of the client's half."""
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        return await soon(reader.read())


def post(body: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {COLLECTION} {HEAD}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n{body}".encode()


class Gate:
    """Holds a use case of the service until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()

    def hold(self, find: Callable[..., Any]) -> Callable[..., Any]:
        async def held(*args: Any, **options: Any) -> Any:
            self.entered.set()
            await self.opened.wait()
            return await find(*args, **options)

        return held


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(Operations, "find", gate.hold(Operations.find))
    return gate


async def test_a_whole_request_is_answered(api: Api) -> None:
    assert (await half_closed(api, READ)).startswith(b"HTTP/1.1 200 ")
    created = await half_closed(api, post('{"id": "a"}'))
    assert created.startswith(b"HTTP/1.1 201 ")
    chunked = f"POST {COLLECTION} {HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await half_closed(api, f"{chunked}2\r\n{{}}\r\n0\r\n\r\n".encode())).startswith(b"HTTP/1.1 201 ")


async def test_several_requests_are_all_answered(api: Api) -> None:
    answers = await half_closed(api, post('{"id": "a"}') + READ + post('{"id": "b"}'))
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200", b"201"]


async def test_bytes_that_are_no_request_get_their_error(api: Api) -> None:
    assert (await half_closed(api, b"hello there\r\n\r\n")).split(b" ")[1] == b"400"


async def test_the_end_may_come_while_the_request_is_handled(api: Api, gate: Gate) -> None:
    await api.created(id="a")
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(MONITOR)
        await soon(gate.entered.wait())
        writer.write_eof()
        assert (await api.get(COLLECTION)).status == 200  # the server has seen the end by now
        gate.opened.set()
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 200 ")


async def test_a_large_answer_is_sent_to_its_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "HALF_CLOSED_SECONDS", 0.1)
    for number in range(20):
        await api.created(id=str(number), text="x" * 60_000)
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(READ)
        writer.write_eof()
        head = await soon(reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.3)  # a slow reader: the time for an answer to begin is over
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        assert len(await soon(reader.read())) == length > 1_200_000


async def test_a_request_that_takes_too_long_is_not_answered(
    api: Api, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "HALF_CLOSED_SECONDS", 0.05)
    await api.created(id="a")
    assert await half_closed(api, MONITOR) == b""
    gate.opened.set()


@pytest.mark.parametrize("data", [post('{"id": "a"', 100), READ[:-2], b"GET /", b""])
async def test_a_part_of_a_request_ends_with_its_connection(api: Api, data: bytes) -> None:
    assert await half_closed(api, data) == b""
    assert (await api.get(COLLECTION)).json["value"] == []


@pytest.mark.usefixtures("waits_of_an_hour")
@pytest.mark.parametrize("data", [WAIT, STREAM], ids=["wait", "stream"])
async def test_waits_and_streams_end_with_the_client_s_half(api: Api, data: bytes) -> None:
    """Whether the end comes together with the request, or later."""
    await api.created(id="a")
    await half_closed(api, data)
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(data)
        if data is STREAM:
            await soon(reader.readuntil(b"\r\n\r\n"))
        else:
            await until_waiting(api)
        writer.write_eof()
        await soon(reader.read())


@pytest.mark.usefixtures("waits_of_an_hour")
async def test_a_create_that_cannot_wait_for_its_end_is_answered_at_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(Operations, "create", gate.hold(Operations.create))
    create = post('{"id": "a"}').replace(b"\r\nContent-Type", b"\r\nPrefer: respond-async, wait=3600\r\nContent-Type")
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(create)
        await soon(gate.entered.wait())
        writer.write_eof()
        assert (await api.get(COLLECTION)).status == 200
        gate.opened.set()
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 202 ")


async def until_waiting(api: Api) -> None:
    """Another request is handled after the first has been received."""
    for _ in range(3):
        assert (await api.get(COLLECTION)).status == 200


async def test_a_connection_that_is_idle_ends_with_the_client_s_half(api: Api) -> None:
    async with api.connected(limit=2**24) as (reader, writer):
        writer.write(READ)
        head = await soon(reader.readuntil(b"\r\n\r\n"))
        assert b"Connection: close" not in head
        writer.write_eof()
        await soon(reader.read())
