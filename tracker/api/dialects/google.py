"""The dialect of `google.longrunning.Operations` over REST (AIP-151).

The name of an operation is `operations/{id}` or `calls/{callId}/operations/{id}`, as in the path of the request.
Google's own client accepts names of the second form only, unless it is configured with other paths.
"""

import math
import re
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

from aiohttp import web

from tracker.api import request_bodies
from tracker.api.answers import JsonItems, PartOfRoom, Room, room_for, send
from tracker.api.dialects.common import Problem, json_response, options, page_query, page_size, page_token
from tracker.api.guard import OPERATIONS
from tracker.api.long_poll import wait_for_end
from tracker.api.prefer import MAX_WAIT
from tracker.api.serializers import percent_complete, resource, timestamp
from tracker.api.server import is_subrequest
from tracker.domain.operation import Json, OperationStatus
from tracker.domain.record import Record
from tracker.errors import Invalid, NotSupported
from tracker.listing.query import ListQuery
from tracker.service import Caller

ERROR_DOMAIN: Final = "operation-tracker"

_STRUCT: Final = "type.googleapis.com/google.protobuf.Struct"
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
_SYSTEM: Final = ("alt", "$alt", "prettyPrint", "$prettyPrint")
"""System parameters of Google's APIs. They change nothing here, because responses are always JSON."""
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)s", re.ASCII)
"""The JSON form of `google.protobuf.Duration`, without negative durations."""


class Code(IntEnum):
    """`google.rpc.Code`, without OK."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODES: Final = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    412: Code.FAILED_PRECONDITION,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
"""Codes of HTTP statuses (`google/rpc/code.proto`). Other statuses have the code of their class (`code_of`)."""


def code_of(status: int) -> Code:
    """The code of an HTTP status, or of a `resultInfo.code`, which has the same classes as HTTP statuses."""
    by_class = {4: Code.INVALID_ARGUMENT, 5: Code.INTERNAL}
    return CODES.get(status) or by_class.get(status // 100, Code.UNKNOWN)


async def collect(request: web.Request, caller: Caller) -> web.StreamResponse:
    """List a call's operations, newest first. There is no filter."""
    unserved = frozenset({"filter", "returnPartialSuccess"})
    given = _options(request, "pageSize", "pageToken", unserved=unserved)
    size = page_size(given.get("pageSize"), "pageSize", least=0)
    query = page_query(size, given.get("pageToken"), "pageToken")
    async with room_for(request, caller.tenant) as room:
        return await send(request, await _page(request, caller, query, room), room)


async def _page(request: web.Request, caller: Caller, query: ListQuery, room: Room | PartOfRoom) -> web.Response:
    found = JsonItems(room, lambda record: operation(record, _name(request, record)))
    page = await request.app[OPERATIONS].list(caller, _call(request), query, found.take)
    body: Json = {"operations": found.items}
    if token := page_token(page):
        body["nextPageToken"] = token
    return json_response(body)


async def refuse(_: web.Request, __: Caller) -> web.Response:
    """Refuse to list the operations of all calls, because there is no index of them."""
    raise NotSupported(
        "Operations of all calls cannot be listed; those of one call are at /google/calls/{callId}/operations."
    )


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read an operation."""
    _options(request)
    return _represent(request, await _find(request, caller))


async def wait(request: web.Request, caller: Caller) -> web.Response:
    """Read an operation as soon as it has ended, or when the body's `timeout` is over: at most 60 seconds."""
    if is_subrequest(request):
        raise Invalid("A request of a batch cannot wait for an operation.")
    _options(request)
    seconds = _timeout(await request_bodies.read_optional_object(request, caller))
    since = request.app[OPERATIONS].position
    record = await wait_for_end(request, await _find(request, caller), seconds, since=since)
    return _represent(request, record)


async def cancel(request: web.Request, caller: Caller) -> web.Response:
    """Ask an operation to stop. An operation that has ended stays as it is."""
    _options(request)
    _refuse_members(await request_bodies.read_optional_object(request, caller))
    record = await _find(request, caller)
    await request.app[OPERATIONS].cancel(caller, record.call_id, record.id)
    return json_response({})


async def delete(request: web.Request, caller: Caller) -> web.Response:
    """Hide an operation. An operation that has not ended is canceled first."""
    _options(request)
    record = await _find(request, caller)
    await request.app[OPERATIONS].delete(caller, record.call_id, record.id)
    return json_response({})


def operation(record: Record, name: str) -> Json:
    """A `google.longrunning.Operation`. Its messages are Structs, because every client can decode a Struct."""
    body: Json = {"name": name, "metadata": _struct(_metadata(record)), "done": record.status.final}
    if record.status is OperationStatus.COMPLETED:
        body["response"] = _struct(resource(record))
    if record.status is OperationStatus.FAILED:
        body["error"] = error(record)
    return body


def error(record: Record) -> Json:
    """The `google.rpc.Status` of a failed operation. Its details have code and subcode of the `resultInfo`."""
    result = record.result_info
    code = Code.UNKNOWN if result is None else code_of(result.code)
    body: Json = {
        "code": Code.CANCELLED if record.canceled else code,
        "message": "The operation failed." if result is None else result.message,
    }
    if result is not None:
        info = {"reason": "CANCELED" if record.canceled else "FAILED", "domain": ERROR_DOMAIN}
        numbers = {"code": str(result.code), "subcode": str(result.subcode)}
        body["details"] = [{"@type": _ERROR_INFO, **info, "metadata": numbers}]
    return body


def problem(problem: Problem) -> web.Response:
    """Google's error response. `google.rpc.Code` has no counterpart of 410, so 410 becomes 404."""
    status = HTTPStatus.NOT_FOUND if problem.status == HTTPStatus.GONE else problem.status
    body = {"code": status, "message": problem.message, "status": code_of(status).name}
    return json_response({"error": body}, status=status, headers=problem.headers)


def _metadata(record: Record) -> Json:
    body: Json = {
        "callId": record.call_id,
        "type": record.type,
        "clientContext": record.client_context,
        "createTime": timestamp(record.created),
        "updateTime": timestamp(record.changed),
        "attempt": record.attempt,
        "requestedCancellation": bool(record.cancel_requested),
    }
    if record.started:
        body["startTime"] = timestamp(record.started)
    if record.completed:
        body["endTime"] = timestamp(record.completed)
    if (percent := percent_complete(record)) is not None:
        body["progressPercent"] = percent
    if record.detail:
        body["statusMessage"] = record.detail
    return body


def _struct(value: Json) -> Json:
    return {"@type": _STRUCT, "value": value}


async def _find(request: web.Request, caller: Caller) -> Record:
    operations, operation_id = request.app[OPERATIONS], request.match_info["operation_id"]
    if "call_id" in request.match_info:
        return await operations.get(caller, _call(request), operation_id)
    return await operations.find(caller, operation_id)


def _call(request: web.Request) -> str:
    """The id of the call.

    The id is percent-encoded in the operation's name, and the client encodes the name once more in the path. aiohttp
    has decoded the path, so one encoding is left.
    """
    return unquote(request.match_info["call_id"])


def _name(request: web.Request, record: Record) -> str:
    parent = f"calls/{quote(record.call_id, safe='')}/" if "call_id" in request.match_info else ""
    return f"{parent}operations/{record.id}"


def _represent(request: web.Request, record: Record) -> web.Response:
    return json_response(operation(record, _name(request, record)))


def _timeout(body: Json) -> int:
    _refuse_members(body, "timeout")
    text = body.get("timeout")
    if text is None:
        return MAX_WAIT
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Invalid('timeout: must be a duration in seconds, like "30s" or "1.5s"', target="timeout")
    return min(math.ceil(float(match[1])), MAX_WAIT)


def _options(request: web.Request, *served: str, unserved: frozenset[str] = frozenset()) -> dict[str, str]:
    given = options(request, *served, *_SYSTEM, unserved=unserved)
    for name in ("alt", "$alt"):
        if not given.get(name, "json").startswith("json"):
            raise NotSupported(f"{name}: must be json, because responses are always JSON", target=name)
    return given


def _refuse_members(body: dict[str, Any], *known: str) -> None:
    if unknown := [name for name in body if name not in known]:
        raise Invalid(f"The member {unknown[0][:80]} is unknown here.", target=unknown[0][:80])
