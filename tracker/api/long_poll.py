"""Long polling: requests with `Prefer: wait=N`, whose response waits for a change (RFC 7240, 4.3)."""

from aiohttp import web

from tracker.api.connection import cancelled_on_disconnect, is_half_closed
from tracker.api.guard import CALLERS, OPERATIONS
from tracker.api.held_requests import HeldRequest
from tracker.domain.record import Record
from tracker.events.record_waiter import BEFORE_ALL, HubPosition


async def wait_for_change(
    request: web.Request, record: Record, seconds: int, *, since: HubPosition = BEFORE_ALL
) -> Record:
    """Wait until the operation differs from `record`. Returns its latest record.

    The wait ends early when the client disconnects or the server stops. It does not begin when the client has closed
    its half of the connection, so that the client gets the present state. When the client's token is removed, it raises
    Unauthorized. `since` is the position of the event hub from before `record` was read. With this position, the wait
    starts without reading the record again, unless an event has arrived in between.
    """
    if is_half_closed(request):
        return record
    with cancelled_on_disconnect(request), _held(request, record):
        return await request.app[OPERATIONS].wait(record, seconds=seconds, since=since)


async def wait_for_end(request: web.Request, record: Record, seconds: int, *, since: HubPosition) -> Record:
    """Wait until the operation has ended. Returns its latest record.

    The wait ends early for the same reasons as in `wait_for_change`, and `since` has the same meaning.
    """
    if is_half_closed(request):
        return record
    with cancelled_on_disconnect(request), _held(request, record):
        return await request.app[OPERATIONS].wait_for_end(record, seconds=seconds, since=since)


def _held(request: web.Request, record: Record) -> HeldRequest:
    return request.app[CALLERS].held.hold(request, record.tenant)


async def release_all(app: web.Application) -> None:
    """End all waits and all streams, because the server stops. Each wait returns the record that it has."""
    if OPERATIONS in app:
        app[OPERATIONS].release()
