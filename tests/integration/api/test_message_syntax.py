"""The syntax of HTTP messages (RFC 9112): versions, white space, line ends, folded lines, chunks and trailers."""

import asyncio
import json

import pytest

from tests.support.api_client import COLLECTION, Api
from tests.support.waiting import soon

HEALTH = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
CHUNKED = (
    f"POST {COLLECTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
BODY = '1c\r\n{"clientContext": "chunked"}\r\n'
REFUSED = {
    "no version (HTTP/0.9)": "GET /healthz\r\n\r\n",
    "version 0.9": "GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n",
    "version 2.0": "GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    "version 2.0, kept alive": "GET /healthz HTTP/2.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    "a create of version 2.0": CHUNKED.replace("HTTP/1.1", "HTTP/2.0") + BODY + "0\r\n\r\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 3.0": "GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n",
    "version 1.2": "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
    "version 1": "GET /healthz HTTP/1\r\nHost: x\r\n\r\n",
    "version 1.10": "GET /healthz HTTP/1.10\r\nHost: x\r\n\r\n",
    "version in lower case": "GET /healthz http/1.1\r\nHost: x\r\n\r\n",
    "no Host": "GET /healthz HTTP/1.1\r\n\r\n",
    "a folded line": f"{HEALTH}X: a\r\n b\r\n\r\n",
    "a line folded by a tab": f"{HEALTH}X: a\r\n\tb\r\n\r\n",
    "white space before the first field": "GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n",
    "white space before the colon": f"{HEALTH}X : a\r\n\r\n",
    "a tab before the colon": f"{HEALTH}X\t: a\r\n\r\n",
    "no name of a field": f"{HEALTH}: a\r\n\r\n",
    "a bare CR in a value": f"{HEALTH}X: a\rb\r\n\r\n",
    "a bare CR as a line end": "GET /healthz HTTP/1.1\rHost: x\r\n\r\n",
    "a bare LF as a line end": HEALTH.replace("\r\n", "\n") + "\n",
    "a bare LF in a value": f"{HEALTH}X: a\nY: b\r\n\r\n",
    "white space after the version": "GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n",
    "white space in the target": "GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a chunk of no size": f"{CHUNKED};a\r\n{{}}\r\n0\r\n\r\n",
    "a chunk of a size with a sign": f"{CHUNKED}+2\r\n{{}}\r\n0\r\n\r\n",
    "a chunk of a size with a prefix": f"{CHUNKED}0x2\r\n{{}}\r\n0\r\n\r\n",
    "a chunk of a size that no number can hold": f"{CHUNKED}{'f' * 20}\r\n{{}}\r\n0\r\n\r\n",
    "a chunk longer than its size": f"{CHUNKED}2\r\n{{}}x\r\n0\r\n\r\n",
    "chunks that end by a bare LF": f"{CHUNKED}2\n{{}}\n0\n\n",
    "an extension with a bare LF": f"{CHUNKED}2;a\n{{}}\r\n0\r\n\r\n",
    "an extension with a bare CR": f"{CHUNKED}2;a\rb\r\n{{}}\r\n0\r\n\r\n",
    "an extension that ends in its quotes": f'{CHUNKED}2;a="\r\n"\r\n{{}}\r\n0\r\n\r\n',
    "a trailer that is no field": f"{CHUNKED}{BODY}0\r\nbroken\r\n\r\n",
    "a trailer that changes the framing": f"{CHUNKED}{BODY}0\r\nContent-Length: 5\r\n\r\n",
    "a folded trailer": f"{CHUNKED}{BODY}0\r\nX: a\r\n b\r\n\r\n",
    "a trailer with a NUL": f"{CHUNKED}{BODY}0\r\nX: \0\r\n\r\n",
}
TOO_LARGE = {
    "a trailer that is too long": f"{CHUNKED}{BODY}0\r\nX: {'y' * 20_000}\r\n\r\n",
    "too many trailers": f"{CHUNKED}{BODY}0\r\n" + "X: y\r\n" * 1000 + "\r\n",
}
ACCEPTED = {
    "an extension": f"{CHUNKED}1c;a=b;c\r\n{BODY[4:]}0;d\r\n\r\n",
    "a quoted extension": f'{CHUNKED}1c;a="b c; d"\r\n{BODY[4:]}0\r\n\r\n',
    "a trailer": f"{CHUNKED}{BODY}0\r\nX-Checksum: y\r\n\r\n",
    "trailers that would matter in the headers": (
        f"{CHUNKED}{BODY}0\r\nAuthorization: Bearer wrong\r\nPrefer: return=minimal\r\nExpect: x\r\n\r\n"
    ),
    "white space around a value": CHUNKED.replace("Host: x", "Host:   x\t ") + f"{BODY}0\r\n\r\n",
    "empty lines before the request": f"\r\n\r\n{CHUNKED}{BODY}0\r\n\r\n",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
async def test_a_message_that_the_rfc_does_not_allow_is_refused_in_http_1(api: Api, request_: str) -> None:
    answer = await api.raw(request_.encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert json.loads(body)["error"]["code"] == "badRequest", "one answer, and the connection ends with it"
    assert (await api.get(COLLECTION)).json["value"] == []


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_trailers_are_header_fields_and_have_their_limits(api: Api, request_: str) -> None:
    answer = await api.raw(request_.encode())
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.0 431 "))
    assert (await api.get(COLLECTION)).json["value"] == []


@pytest.mark.parametrize("version", ["", " HTTP/0.9", " HTTP/2.0"])
async def test_a_version_that_is_not_served_is_refused_with_those_that_are(api: Api, version: str) -> None:
    answer = await api.raw(f"GET /healthz{version}\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This server speaks HTTP/1.1 and HTTP/1.0." in answer
    assert b"\r\nrequest-id: " in answer


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED)
async def test_a_message_that_the_rfc_allows_is_served(api: Api, request_: str) -> None:
    answer = await api.raw(request_.encode())
    assert answer.startswith(b"HTTP/1.1 201 ")
    [operation] = (await api.get(COLLECTION)).json["value"]
    assert operation["clientContext"] == "chunked"


async def test_the_request_after_trailers_is_read_from_its_beginning(api: Api) -> None:
    first = CHUNKED.replace("Connection: close\r\n", "")
    answer = await api.raw(f"{first}{BODY}0\r\nX-Checksum: y\r\n\r\n{HEALTH}\r\n".encode())
    assert answer.count(b"HTTP/1.1 201 ") == answer.count(b"HTTP/1.1 200 ") == 1


async def test_extensions_of_chunks_are_limited_and_refused_while_they_arrive(api: Api) -> None:
    async with api.connected() as (reader, writer):
        writer.write(f"{CHUNKED}{BODY}".encode())
        writer.write(b"1;")
        answered = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        sent = 0
        while not answered.done():
            writer.write(b"x" * 4096)
            sent += 4096
            await soon(writer.drain())
            assert sent < 64 * 1024 * 1024, "the extension has no limit"
            await asyncio.sleep(0)
        assert (await answered).startswith(b"HTTP/1.1 400 ")
    assert (await api.get(COLLECTION)).json["value"] == []


async def test_a_body_of_chunks_of_one_byte_is_served(api: Api) -> None:
    body = b'{"clientContext": "chunked"}' + b" " * 100_000
    async with api.connected() as (reader, writer):
        writer.write(CHUNKED.encode())
        for start in range(0, len(body), 1000):
            writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body[start : start + 1000]))
            await soon(writer.drain())
        writer.write(b"0\r\n\r\n")
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 201 ")


async def test_version_1_0_is_served(api: Api) -> None:
    assert (await api.raw(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
