"""`Prefer: wait=N`: requests whose answer is held until something changes (RFC 7240, 4.3)."""

from aiohttp import web

from tracker.api.guard import OPERATIONS
from tracker.api.server import disconnecting
from tracker.domain.record import Record
from tracker.events.record_waiter import BEFORE_ALL, HubPosition


async def hold(request: web.Request, record: Record, seconds: int, *, since: HubPosition = BEFORE_ALL) -> Record:
    """Wait until the operation differs from `record`, `seconds` are over, or the server stops.

    `since` is the service's position from before `record` was read; with it the record need not be read again. When
    the client goes away, the wait ends.
    """
    with disconnecting(request):
        return await request.app[OPERATIONS].wait(record, seconds=seconds, since=since)


async def hold_to_end(request: web.Request, record: Record, seconds: int, *, since: HubPosition) -> Record:
    """Wait until the operation has ended, `seconds` are over, or the server stops; return its record as it is then.

    `since` is the service's position from before `record` was read.
    """
    with disconnecting(request):
        return await request.app[OPERATIONS].wait_for_end(record, seconds=seconds, since=since)


async def release(app: web.Application) -> None:
    """Answer all held requests with what is known of their operations, and end all streams."""
    if OPERATIONS in app:
        app[OPERATIONS].release()
