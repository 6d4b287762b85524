"""Server-sent events (HTML Living Standard, 9.2): what happens to operations, as it happens."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from tracker.api.guard import OPERATIONS
from tracker.api.serializers import event_data
from tracker.api.server import disconnecting, ids_of, stamp
from tracker.errors import TrackerError, Unavailable
from tracker.events.stream import StreamItem, StreamItems
from tracker.json_codec import encode
from tracker.service import Caller

if TYPE_CHECKING:
    from tracker.events.feed import Event

log = structlog.get_logger()

WRITE_WITHIN: Final = 20.0
"""Seconds that a reader may take nothing; then it is dropped."""
RETRY: Final = b"retry: 2000\n"
"""Milliseconds after which a client that lost its stream asks again."""
FULL_RETRY_AFTER: Final = 10
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back
}
RESET: Final = b'data: {"message":"What was told since is not kept any more. Read what you need to know."}\n'


class Streams:
    """How many streams there are, and may be."""

    def __init__(self, most: int) -> None:
        self._most, self._open = most, 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a stream while it lasts. Raises Unavailable when there are too many."""
        if self._open >= self._most:
            raise Unavailable("Too many streams of events are open.", retry_after=FULL_RETRY_AFTER)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


STREAMS: Final = web.AppKey("streams", Streams)


async def of_operation(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow one operation to its end; 204 when the client has been told of it already."""
    match = request.match_info
    return await _stream(request, caller, call_id=match["call_id"], operation_id=match["operation_id"])


async def of_call(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow a call's operations."""
    return await _stream(request, caller, call_id=request.match_info["call_id"])


async def of_tenant(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Follow all operations of the caller's tenant."""
    return await _stream(request, caller)


async def _stream(
    request: web.Request, caller: Caller, *, call_id: str | None = None, operation_id: str | None = None
) -> web.StreamResponse:
    resume = request.headers.get("Last-Event-ID")
    steps = await request.app[OPERATIONS].follow(caller, call_id=call_id, operation_id=operation_id, resume=resume)
    if request.method == "HEAD":
        return web.Response(headers=HEADERS)
    with request.app[STREAMS].one_more(), disconnecting(request):
        async with aclosing(steps):
            return await _answer(request, steps)


async def _answer(request: web.Request, steps: StreamItems) -> web.StreamResponse:
    first = await anext(steps, None)
    if first is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    response = web.StreamResponse(headers=HEADERS)
    stamp(response, request, ids_of(request.headers))
    await response.prepare(request)
    try:
        await _write(response, RETRY, first)
        async for chunk in steps:
            await _write(response, b"", chunk)
        async with asyncio.timeout(WRITE_WITHIN):
            await response.write_eof()
    except (TimeoutError, TrackerError):  # too slow, or Redis went: nothing else can be said within a stream
        log.info("reader_dropped", remote=request.remote, path=request.path)
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, before: bytes, steps: Sequence[StreamItem]) -> None:
    """Raises TimeoutError when the reader takes nothing."""
    async with asyncio.timeout(WRITE_WITHIN):
        await response.write(before + b"".join(map(written, steps)))


def written(step: StreamItem) -> bytes:
    """A step as the format has it. One without data is a comment, and moves the client's `Last-Event-ID`."""
    place = f"id: {step.position}\n\n".encode()
    if step.reset:
        return b"event: reset\n" + RESET + place
    if step.event is None:
        return b":\n" + place
    return (b"event: gone\n" if step.event.gone else b"") + _data(step.event) + place


@lru_cache(256)
def _data(event: "Event") -> bytes:
    """Written once for all who follow."""
    return b"data: " + encode(event_data(event)) + b"\n"
