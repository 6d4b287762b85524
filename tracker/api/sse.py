"""Streams of server-sent events about operations (HTML Living Standard, 9.2)."""

import asyncio
from contextlib import aclosing
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from tracker.api.answers import BUDGETS
from tracker.api.connection import cancelled_on_disconnect, standard_headers
from tracker.api.error_responses import IDS
from tracker.api.guard import CALLERS, OPERATIONS
from tracker.api.headers import single
from tracker.api.serializers import event_data
from tracker.errors import TrackerError
from tracker.events.stream import StreamItem, StreamItems
from tracker.json_codec import encode
from tracker.service import Caller

if TYPE_CHECKING:
    from tracker.events.feed import Event

log = structlog.get_logger()

WRITE_TIMEOUT: Final = 20.0
"""The longest time, in seconds, that a write may take. Then the connection of the slow reader is closed."""
RETRY: Final = b"retry: 2000\n"
"""The time, in milliseconds, after which a client that has lost its stream reconnects."""
ITEMS_AT_ONCE: Final = 50
"""How many items are written together at most."""
FULL: Final = "Too many streams of events are open."
FULL_RETRY_AFTER: Final = 10
"""The `Retry-After`, in seconds, when too many streams are open."""
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would buffer events otherwise
}
RESET: Final = b'data: {"message":"The events since then are no longer stored. Read the operations again."}\n'


async def follow_operation(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow one operation to its end. The response is 204 when the client has received the last event already."""
    match = request.match_info
    return await _stream(request, caller, call_id=match["call_id"], operation_id=match["operation_id"])


async def follow_call(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow a call's operations."""
    return await _stream(request, caller, call_id=request.match_info["call_id"])


async def follow_tenant(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow all operations of the caller's tenant."""
    return await _stream(request, caller)


async def _stream(
    request: web.Request, caller: Caller, *, call_id: str | None = None, operation_id: str | None = None
) -> web.StreamResponse:
    resume = single(request.headers, "Last-Event-ID")
    items = await request.app[OPERATIONS].follow(caller, call_id=call_id, operation_id=operation_id, resume=resume)
    if request.method == "HEAD":
        return web.Response(headers=HEADERS)
    streams = request.app[BUDGETS].streams
    with streams.taken(caller.tenant, FULL, retry_after=FULL_RETRY_AFTER), cancelled_on_disconnect(request):
        async with aclosing(items):
            return await _respond(request, items, caller.tenant)


async def _respond(request: web.Request, items: StreamItems, tenant: str) -> web.StreamResponse:
    chunk = await anext(items, None)
    if chunk is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    response = web.StreamResponse(headers=HEADERS)
    response.headers.update(standard_headers(request, request[IDS]))
    await response.prepare(request)
    try:
        with request.app[CALLERS].held.hold(request, tenant):
            await _write(response, RETRY)
            while chunk is not None:
                for start in range(0, len(chunk), ITEMS_AT_ONCE):
                    await request.app[BUDGETS].turns.turn(tenant)
                    await _write(response, b"".join(map(encode_item, chunk[start : start + ITEMS_AT_ONCE])))
                chunk = ()  # while the stream waits for more, these are in nobody's memory
                chunk = await anext(items, None)
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.write_eof()
    except (TimeoutError, TrackerError) as error:
        # The reader is too slow, Redis is away, or the reader's token was removed. The status is sent, so an error
        # response is not possible any more.
        log.info("reader_dropped", remote=request.remote, path=request.path, reason=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write bytes. Raises TimeoutError when the reader is too slow."""
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(data)


def encode_item(item: StreamItem) -> bytes:
    """An item in the format of server-sent events.

    An item without an event is a comment. Its id moves the client's `Last-Event-ID` forward.
    """
    identifier = f"id: {item.position}\n\n".encode()
    if item.reset:
        return b"event: reset\n" + RESET + identifier
    if item.event is None:
        return b":\n" + identifier
    return (b"event: gone\n" if item.event.gone else b"") + _data(item.event) + identifier


@lru_cache(256)
def _data(event: "Event") -> bytes:
    """The data line of an event. The cache lets all streams of the process share one encoding."""
    return b"data: " + encode(event_data(event)) + b"\n"
