"""Answers that are large: how long they may be, and how many bytes of them this process holds."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeGuard, cast

import orjson
from aiohttp import hdrs, web

from tracker.api.connection import standard_headers
from tracker.api.error_responses import IDS
from tracker.api.server import is_subrequest
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.errors import Unavailable
from tracker.json_codec import encode
from tracker.runtime.budgets import Budgets
from tracker.runtime.shares import Shares

if TYPE_CHECKING:
    from tracker.api.half_closed import HalfClosedHandler

BUDGETS: Final = web.AppKey("budgets", Budgets)

PATIENCE: Final = 5.0
"""The longest time that an answer waits for its first bytes of the process's budget, in seconds."""
PART: Final = 64 * 1024
"""How many bytes an answer takes of the process's budget at a time, and how many are written at a time."""
_BUSY: Final = "Too many large answers are under way; try again."


class Room:
    """The room that one answer has. It takes bytes of the process's budget as the answer grows."""

    def __init__(self, shares: Shares, tenant: str, *, most: int, held: int) -> None:
        self._shares, self._tenant = shares, tenant
        self._held, self._used = held, 0
        self.left = most
        """How many bytes the answer may still grow by."""

    def add(self, size: int) -> bool:
        """Count bytes that the answer has now. Returns whether more may follow."""
        self._used += size
        self.left -= size
        missing = self._used - self._held
        if missing <= 0:
            return self.left > 0
        more = max(missing, PART)
        goes_on = self._shares.take(self._tenant, more)
        if not goes_on:
            more = missing
            self._shares.count(self._tenant, more)
        self._held += more
        return goes_on and self.left > 0

    def count_whole(self, size: int) -> None:
        """Count the answer's whole size, of which a part may be counted already."""
        self.add(max(0, size - self._used))

    def trim(self) -> None:
        """Give back what the answer has not used, because it does not grow any more."""
        self._give_back(max(0, self._held - self._used))

    def release(self) -> None:
        """Give back everything, because the answer is sent or given up."""
        self._give_back(self._held)

    def _give_back(self, size: int) -> None:
        self._held -= size
        if size:
            self._shares.give_back(self._tenant, size)


class BatchRoom:
    """The room of a batch's answer, in equal parts for its requests. What one of them does not need, others may use."""

    def __init__(self, room: Room, number: int) -> None:
        self.room, self.spare = room, 0
        self._size = room.left // number

    def part(self) -> "PartOfRoom":
        """The part of one request."""
        return PartOfRoom(self, self._size)


class PartOfRoom:
    """The room that the answer of one request of a batch has."""

    def __init__(self, batch: BatchRoom, size: int) -> None:
        self._batch, self._left, self._used = batch, size, 0

    def add(self, size: int) -> bool:
        """Count bytes that the answer has now. Returns whether more may follow."""
        self._left -= size
        self._used += size
        if self._left <= 0:
            more = min(self._batch.spare, PART)
            self._batch.spare -= more
            self._left += more
        return self._batch.room.add(size) and self._left > 0

    def close(self, size: int) -> None:
        """Count the answer's size as far as it is not counted yet, and leave what is left to the other requests."""
        self.add(max(0, size - self._used))
        self._batch.spare += max(0, self._left)
        self._left = 0


PART_OF_BATCH: Final[ContextVar[PartOfRoom | None]] = ContextVar("part_of_batch", default=None)
"""The room of the request of a batch that the present task handles."""


class JsonItems:
    """The items of a list, each encoded as soon as it is read. So no more than one decoded record is in memory."""

    def __init__(self, room: Room | PartOfRoom, item_of: Callable[[Record], Json]) -> None:
        self._room, self._item_of = room, item_of
        self.items: list[orjson.Fragment] = []

    def take(self, record: Record) -> bool:
        """Add a record. Returns whether there is room for more."""
        item = encode(self._item_of(record))
        self.items.append(orjson.Fragment(item))
        return self._room.add(len(item) + 1)


@asynccontextmanager
async def room_for(request: web.Request, tenant: str) -> AsyncIterator[Room | PartOfRoom]:
    """The room of an answer that may be large. Raises Unavailable if the process has none within PATIENCE.

    Within a batch it is a part of the batch's own room. Send the answer within the body, by `send`.
    """
    if (part := PART_OF_BATCH.get()) is not None:
        yield part
        return
    budgets = request.app[BUDGETS]
    if not await budgets.answers.acquire(tenant, PART, within=PATIENCE):
        raise Unavailable(_BUSY, retry_after=int(PATIENCE))
    room = Room(budgets.answers, tenant, most=budgets.answer_bytes, held=PART)
    try:
        yield room
    finally:
        room.release()


async def send(request: web.Request, response: web.Response, room: Room | PartOfRoom) -> web.StreamResponse:
    """Send a response, and return when it is sent, so that its bytes count until then.

    The response to a request of a batch is returned as it is.
    """
    if isinstance(room, PartOfRoom):
        return response
    room.trim()
    return await _send(request, response)


async def send_counted(request: web.Request, response: web.Response, tenant: str) -> web.StreamResponse:
    """Send a response whose request has been carried out, so that it is sent even if the budget has no room for it."""
    shares, size = request.app[BUDGETS].answers, body_size(response)
    shares.count(tenant, size)
    try:
        return await _send(request, response)
    finally:
        shares.give_back(tenant, size)


async def send_shared(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send a response whose body all requests share, so that only what the transport copies takes memory."""
    return await _send(request, response) if is_large(response, request) else response


def is_large(response: web.StreamResponse, request: web.Request) -> TypeGuard[web.Response]:
    """Whether a response is so large that it is counted, and not sent yet."""
    if not isinstance(response, web.Response) or response.prepared or body_size(response) <= PART:
        return False
    return not is_subrequest(request)


def body_size(response: web.Response) -> int:
    """How many bytes the body of a response has."""
    body = response.body
    return len(body) if isinstance(body, bytes | bytearray) else 0


async def _send(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send a response, a long one in pieces. The transport copies what the network does not take at once."""
    response.headers.update(standard_headers(request, request[IDS]))
    sent: web.StreamResponse = response
    connection = cast("HalfClosedHandler", request.protocol)
    connection.sends_in_handler = True
    try:
        if body_size(response) > PART and request.method != hdrs.METH_HEAD:
            sent = web.StreamResponse(status=response.status, headers=response.headers)
            await _write_pieces(request, sent, memoryview(response.body))  # type: ignore[arg-type] # `body_size` counts bytes only
        else:
            await response.prepare(request)
            await response.write_eof()
    except ConnectionError:
        pass  # the client has gone away; aiohttp notices it, too
    finally:
        connection.sends_in_handler = False
    return sent


async def _write_pieces(request: web.Request, response: web.StreamResponse, body: memoryview) -> None:
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), PART):
        await response.write(body[start : start + PART])
    await response.write_eof()
