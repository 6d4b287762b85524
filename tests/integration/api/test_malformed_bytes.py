"""Malformed input: bodies over limits, wrong encodings, bytes that are not HTTP, clients that disconnect."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from yarl import URL

from tests.support.api_client import COLLECTION, Api
from tests.support.waiting import soon
from tracker.api.app import BODY_LIMIT

JSON = {"Content-Type": "application/json"}
POST = (
    f"POST {COLLECTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\nContent-Type: application/json\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xff"}',
        b'{"a":' * 100_000,
        b'{"a": ' + b"[" * 500_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_malformed_json_is_refused(api: Api, body: bytes) -> None:
    answer = await api.post(data=body, headers=JSON)
    assert (answer.status, answer.error["code"]) == (400, "badRequest")


async def test_a_body_may_be_as_large_as_the_limit(api: Api) -> None:
    body = b"{}" + b" " * (BODY_LIMIT - 2)
    assert (await api.post(data=BytesIO(body), headers=JSON)).status == 201
    for larger in (BytesIO(body + b" "), _chunks(body + b" ")):
        answer = await api.post(data=larger, headers=JSON)
        assert (answer.status, answer.error["code"]) == (413, "payloadTooLarge")


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read(api: Api, encoding: str, compress: object) -> None:
    assert callable(compress)
    answer = await api.post(data=compress(b'{"clientContext": "x"}'), headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status, answer.json["clientContext"]) == (201, "x")


async def test_the_size_limit_counts_the_bytes_that_gzip_unpacks_to(api: Api) -> None:
    bomb = gzip.compress(b" " * (200 * BODY_LIMIT))
    assert len(bomb) < BODY_LIMIT
    answer = await api.post(data=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (413, "payloadTooLarge")


@pytest.mark.parametrize(
    "body",
    [b"not gzip at all", gzip.compress(b"{}", mtime=0)[:-12], gzip.compress(b'{"a":1}' * 9, mtime=0)[:20] + b"x"],
)
async def test_bad_compressed_data_is_refused(api: Api, body: bytes) -> None:
    answer = await api.post(data=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (400, "badRequest")


async def test_a_body_that_lies_about_its_encoding_leaves_the_connection_usable(api: Api) -> None:
    lie = f"{POST}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"
    answer = await api.raw(f"{lie}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " in answer


async def test_a_body_of_several_gzip_members_is_read(api: Api) -> None:
    body = gzip.compress(b'{"client') + gzip.compress(b'Context": "x"}')
    answer = await api.post(data=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, answer.json["clientContext"]) == (201, "x")


async def test_a_body_of_very_many_gzip_members_is_refused(api: Api) -> None:
    body = gzip.compress(b"") * 20_000
    assert len(body) < BODY_LIMIT
    answer = await api.post(data=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (400, "badRequest")


async def test_bare_deflate_data_is_read(api: Api) -> None:
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = bare.compress(b'{"clientContext": "x"}') + bare.flush()
    answer = await api.post(data=body, headers={**JSON, "Content-Encoding": "deflate"})
    assert (answer.status, answer.json["clientContext"]) == (201, "x")


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [COLLECTION, "/$batch", "/nothing", "/google/calls/c/operations", "/ogc/jobs"])
async def test_no_body_is_decompressed_without_a_token(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    made: list[int] = []
    decompressobj = zlib.decompressobj

    def counted(*args: Any) -> Any:
        made.append(1)
        return decompressobj(*args)

    monkeypatch.setattr(zlib, "decompressobj", counted)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    bomb = gzip.compress(b" " * (10 * BODY_LIMIT))
    answer = await api.raw(f"{head}Content-Length: {len(bomb)}\r\nConnection: close\r\n\r\n".encode() + bomb)
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert made == []


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "x", "br"])
async def test_an_unknown_encoding_is_refused(api: Api, encoding: str) -> None:
    answer = await api.post(data=b"{}", headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status, answer.error["code"]) == (415, "unsupportedMediaType")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x01\x02\r\n\r\n",
        b"hello there\r\n\r\n",
        b"GET\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n").encode(),
    ],
    ids=lambda data: repr(data[:36]),
)
async def test_bytes_that_are_no_request_get_graphs_error(api: Api, data: bytes) -> None:
    status, code = await refused(api, data)
    assert (status, code) in {(400, "badRequest"), (415, "unsupportedMediaType")}


async def refused(api: Api, data: bytes) -> tuple[int, str]:
    """Status and code of the response to bytes that are refused, which must have Graph's error and the headers."""
    head, _, body = (await api.raw(data)).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    error = json.loads(body[: int(headers["content-length"])])["error"]
    assert error["innerError"]["request-id"] == headers["request-id"]
    assert headers["odata-version"] == "4.0"
    assert headers["date"]
    return int(status.split()[1]), error["code"]


@pytest.mark.parametrize("target", [b"/", b"/google/operations/", b"/ogc/jobs?x=", COLLECTION.encode() + b"?$filter="])
async def test_a_target_that_is_too_long_is_414(api: Api, target: bytes) -> None:
    data = b"GET " + target.ljust(20_000, b"y") + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await refused(api, data) == (414, "uriTooLong")


@pytest.mark.parametrize("fields", [b"X: /" + b"y" * 20_000 + b"\r\n", b"y" * 20_000 + b": x\r\n", b"X: y\r\n" * 1000])
async def test_header_fields_that_are_too_large_are_431(api: Api, fields: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
    assert await refused(api, data) == (431, "requestHeaderFieldsTooLarge")


@pytest.mark.parametrize(
    "target",
    [b"/operations/\xff", COLLECTION.encode() + b"?$filter=\xff\xfe", b"/communications/calls/\xff/operations"],
)
async def test_an_address_that_is_no_utf8_is_refused(api: Api, target: bytes) -> None:
    request = (
        b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\nConnection: close\r\n\r\n"
    )
    assert (await api.raw(request)).split(b" ")[1] == b"400"


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff",
        b"Host: \xff",
        b"Accept: \xff",
        b"Prefer: \xff",
        b"If-None-Match: \xff",
        b"client-request-id: \xff",
        b"OData-MaxVersion: \xff",
        b"X-Forwarded-Host: \xff",
    ],
)
async def test_a_header_of_any_bytes_is_harmless(api: Api, header: bytes) -> None:
    token = b"" if header.startswith(b"Auth") else b"Authorization: Bearer test-token\r\n"
    host = b"" if header.startswith(b"Host") else b"Host: x\r\n"
    request = b"GET /operations/x HTTP/1.1\r\n" + host + token + header + b"\r\nConnection: close\r\n\r\n"
    assert (await api.raw(request)).split(b" ")[1] in {b"404", b"401", b"400"}


async def test_an_address_in_absolute_form_is_served(api: Api) -> None:
    request = f"GET http://example.org//beta//{COLLECTION} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n"
    answer = await api.raw(f"{request}Authorization: Bearer test-token\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n40\r\n{"])
async def test_a_client_that_vanishes_in_its_body_is_harmless(
    api: Api, framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = URL(api.url)
    for abort in (False, True):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write((POST + framing).encode())
        await writer.drain()
        if abort:
            writer.transport.abort()
        else:
            writer.close()
    assert (await api.get(COLLECTION)).json["value"] == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress"])
async def test_an_encoding_that_cannot_be_undone_is_refused_as_such(api: Api, encoding: str) -> None:
    answer = await api.post(data=b"{}", headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status, answer.error["code"]) == (415, "unsupportedMediaType")
    assert "gzip" in answer.error["message"]


@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_body_that_is_framed_wrongly_after_its_beginning_is_refused_at_once(api: Api, pieces: int) -> None:
    """The handler waits for the body by then. More pieces than the queue of requests takes must not hide the fault."""
    async with api.connected() as (reader, writer):
        writer.write(f"{POST}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode())
        await asyncio.sleep(0.05)
        answering = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        for _ in range(pieces):
            if not answering.done():
                writer.write(b"zz\r\n")
                await asyncio.sleep(0.002)
        head = await soon(answering)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in head


async def test_a_body_that_is_refused_leaves_no_traceback_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    many = "1;" + "x" * 4000 + "\r\n \r\n"
    for head in (POST, f"POST {COLLECTION} HTTP/1.1\r\nHost: x\r\n"):
        answer = await api.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n{many * 30}zz\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.0 400 "))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
