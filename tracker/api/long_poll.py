"""Long polling: requests with `Prefer: wait=N`, whose response waits for a change (RFC 7240, 4.3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from tracker.api.answers import BUDGETS
from tracker.api.connection import cancelled_on_disconnect, is_half_closed
from tracker.api.guard import CALLERS, OPERATIONS
from tracker.domain.record import Record
from tracker.events.feed import is_whole, without_large_members
from tracker.events.record_waiter import BEFORE_ALL, HubPosition
from tracker.service import Caller

FULL: Final = "Too many requests wait for changes."
FULL_RETRY_AFTER: Final = 10
"""The `Retry-After`, in seconds, when too many requests wait."""


async def wait_for_change(
    request: web.Request, record: Record, seconds: int, *, since: HubPosition = BEFORE_ALL
) -> Record:
    """Wait until the operation differs from `record`. Returns its latest record. Raises Unavailable if too many wait.

    The wait ends early when the client disconnects or the server stops. It does not begin when the client has closed
    its half of the connection, so that the client gets the present state. When the client's token is removed, it raises
    Unauthorized. `since` is the position of the event hub from before `record` was read. With this position, the wait
    starts without reading the record again, unless an event has arrived in between.

    The caller should keep no other reference to `record`, which may be large.
    """
    if is_half_closed(request):
        return await _whole(request, record)
    record = without_large_members(record)
    with _held(request, record):
        record = await request.app[OPERATIONS].wait(record, seconds=seconds, since=since)
        await request.app[BUDGETS].turns.turn(record.tenant)
    return await _whole(request, record)


async def wait_for_end(request: web.Request, record: Record, seconds: int, *, since: HubPosition) -> Record:
    """Wait until the operation has ended. Returns its latest record. Raises Unavailable if too many wait.

    The wait ends early for the same reasons as in `wait_for_change`, and `since` has the same meaning.
    """
    if is_half_closed(request):
        return await _whole(request, record)
    record = without_large_members(record)
    with _held(request, record):
        record = await request.app[OPERATIONS].wait_for_end(record, seconds=seconds, since=since)
        await request.app[BUDGETS].turns.turn(record.tenant)
    return await _whole(request, record)


async def release_all(app: web.Application) -> None:
    """End all waits and all streams, because the server stops. Each wait returns the record that it has."""
    if OPERATIONS in app:
        app[OPERATIONS].release()


@contextmanager
def _held(request: web.Request, record: Record) -> Iterator[None]:
    waits, tokens = request.app[BUDGETS].waits, request.app[CALLERS].held
    with (
        waits.taken(record.tenant, FULL, retry_after=FULL_RETRY_AFTER),
        cancelled_on_disconnect(request),
        tokens.hold(request, record.tenant),
    ):
        yield


async def _whole(request: web.Request, record: Record) -> Record:
    """The record with its members, which it may have been without while the request waited."""
    if is_whole(record):
        return record
    return await request.app[OPERATIONS].get(Caller("", record.tenant), record.call_id, record.id)
