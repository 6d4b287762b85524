"""The status monitor of an operation, `/operations/{id}`, for the pollers of Azure's client libraries.

The pollers find the monitor by the header `Operation-Location`. They cannot poll the operation itself, because they
take every 200 from `Location` for success, and do not know the status `Completed`.
"""

from http import HTTPStatus

from aiohttp import web

from tracker.api.guard import OPERATIONS, links
from tracker.api.representation import retry_after
from tracker.api.serializers import monitor
from tracker.json_codec import encode
from tracker.service import Caller


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Show an operation's status and progress."""
    operations = request.app[OPERATIONS]
    record = await operations.find(caller, request.match_info["operation_id"])
    location = links(request).operation(record.call_id, record.id)
    return web.Response(
        body=encode(monitor(record, resource_location=location)),
        headers=retry_after(operations.estimator, record),
        content_type="application/json",
    )


async def cancel(request: web.Request, caller: Caller) -> web.Response:
    """Ask an operation to stop: 202, or 204 if it has ended."""
    operations = request.app[OPERATIONS]
    record = await operations.find(caller, request.match_info["operation_id"])
    if record.status.final:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    await operations.cancel(caller, None, record.id)
    return web.Response(status=HTTPStatus.ACCEPTED)
