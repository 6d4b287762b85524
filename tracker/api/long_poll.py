"""`Prefer: wait=N`: requests whose answer is held until something changes (RFC 7240, 4.3)."""

from aiohttp import web

from tracker.api.guard import OPERATIONS
from tracker.api.server import disconnecting
from tracker.domain.record import Record
from tracker.service import UNMARKED, Caller, Mark


async def hold(request: web.Request, caller: Caller, record: Record, seconds: int, *, mark: Mark = UNMARKED) -> Record:
    """Wait until the operation is another than `record`, time is up, or the server stops.

    A `mark` of the service's from before the record was read saves reading it again. A client that goes away frees
    what was held for it.
    """
    with disconnecting(request):
        return await request.app[OPERATIONS].wait(caller, record, seconds=seconds, mark=mark)


async def hold_to_end(request: web.Request, caller: Caller, record: Record, seconds: int, *, mark: Mark) -> Record:
    """Wait until the operation has ended, time is up, or the server stops; return it as it then is.

    The `mark` is the service's from before the record was read.
    """
    with disconnecting(request):
        return await request.app[OPERATIONS].wait_for_end(caller, record, seconds=seconds, mark=mark)


async def release(app: web.Application) -> None:
    """Answer all held requests with what is known of their operations, and end all streams."""
    if OPERATIONS in app:
        app[OPERATIONS].release()
