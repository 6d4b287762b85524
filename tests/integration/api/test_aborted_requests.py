"""Requests that their clients abort leave no cycles of references, so that they are freed without a full collection."""

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader

from tests.support.api_client import COLLECTION, Api
from tests.support.waiting import eventually, soon
from tracker.api.connection import Connection

TOKEN = "Host: x\r\nAuthorization: Bearer test-token\r\n"
JSON = f"{TOKEN}Content-Type: application/json\r\n"
LISTS = json.dumps({"requests": [{"id": str(number), "method": "GET", "url": COLLECTION} for number in range(5)]})
KINDS = {
    "half the headers": b"GET /heal",
    "half a body": f"POST {COLLECTION} HTTP/1.1\r\n{JSON}Content-Length: 1000000\r\n\r\n".encode() + b" " * 200_000,
    "half a chunk": f"POST {COLLECTION} HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n10000\r\n ".encode(),
    "no token": f"GET {COLLECTION} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "no JSON": f"POST {COLLECTION} HTTP/1.1\r\n{JSON}Content-Length: 1\r\n\r\n[".encode(),
    "no HTTP": b"\x00\x01\r\n\r\n",
    "a list": f"GET {COLLECTION} HTTP/1.1\r\n{TOKEN}\r\n".encode(),
    "many lists": f"GET {COLLECTION} HTTP/1.1\r\n{TOKEN}\r\n".encode() * 20,
    "a batch": f"POST /$batch HTTP/1.1\r\n{JSON}Content-Length: {len(LISTS)}\r\n\r\n{LISTS}".encode(),
    "a stream": f"GET {COLLECTION}/events HTTP/1.1\r\n{TOKEN}\r\n".encode(),
    "a wait": f"GET {COLLECTION}/one HTTP/1.1\r\n{TOKEN}Prefer: wait=30\r\n\r\n".encode(),
}


SILENT = {"half the headers", "half a body", "half a chunk", "a wait"}
"""The kinds to which no response comes."""


@contextmanager
def garbage() -> Iterator[list[object]]:
    """Collect what became garbage in the body: the objects that only a collection frees."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def abort(api: Api, sent: bytes, *, read: bool) -> None:
    """Send bytes, read a part of the response if there is to be one, and reset the connection."""
    async with api.connected() as (reader, writer):
        writer.write(sent)
        await writer.drain()
        if read:
            await soon(reader.read(1000))


@pytest.mark.parametrize("read", [True, False], ids=["after a part of the response", "at once"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_aborted_request_is_freed_at_once(api: Api, kind: str, read: bool) -> None:
    for _ in range(5):
        await api.created(filler="x" * 60_000)
    await api.created(id="one")
    before = {id(each) for each in gc.get_objects() if isinstance(each, Connection)}
    with garbage() as found:
        for _ in range(5):
            await abort(api, KINDS[kind], read=read and kind not in SILENT)

        async def are_over() -> bool:
            left = [each for each in gc.get_objects() if isinstance(each, Connection) and id(each) not in before]
            return all(each.transport is None and each._current_request is None for each in left)

        await eventually(are_over)
        await asyncio.sleep(0.05)
    kept = (Connection, web.BaseRequest, web.StreamResponse, StreamReader)
    assert [type(each).__name__ for each in found if isinstance(each, kept)] == []
