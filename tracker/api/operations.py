"""HTTP handlers of one operation, `/communications/calls/{callId}/operations/{id}`, and of its creation."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from tracker.api import idempotency, request_bodies
from tracker.api.guard import OPERATIONS, links
from tracker.api.headers import joined
from tracker.api.long_poll import wait_for_change, wait_for_end
from tracker.api.odata.query_options import select
from tracker.api.odata.select import ALL, Selection
from tracker.api.prefer import Preferences, preference_applied, preferences_of
from tracker.api.representation import Representation, ResponseParts, with_state
from tracker.bodies.preconditions import ANY, Preconditions, etag_matches
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.errors import Invalid, NotFound, PreconditionRequired, Reused, Unauthorized, Unavailable
from tracker.events.feed import is_whole, without_large_members
from tracker.events.record_waiter import BEFORE_ALL, HubPosition
from tracker.service import REASON_LIMIT, Caller

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


async def create(request: web.Request, caller: Caller) -> web.Response:
    """Create an operation: 201, or 200 with the stored operation if the same request came before.

    With `Prefer: respond-async` the status is 202, unless the operation ends within the preferred `wait`.
    """
    return await create_from(
        request, caller, await request_bodies.read_object(request, caller), status=HTTPStatus.CREATED
    )


async def create_from(request: web.Request, caller: Caller, body: Json, *, status: HTTPStatus) -> web.Response:
    """Create an operation from a body in the call that the path names.

    The response has this `status` if the operation is new, and 200 if it was stored before.
    """
    operations, preferences = request.app[OPERATIONS], preferences_of(request)
    since = operations.position if preferences.respond_async else BEFORE_ALL
    key = idempotency.key_of(request, remembered=operations.settings.idempotency)
    strict = preferences.strict is True
    try:
        record, new = await operations.create(
            caller, request.match_info["call_id"], body, idempotency_key=key, strict=strict
        )
    except Reused:
        raise idempotency.reuse_error(request) from None
    del body  # the request may wait for long
    representation = Representation(links(request), operations.estimator, record.call_id)
    status = status if new else HTTPStatus.OK
    headers = {**representation.location_headers(record), **idempotency.result_headers(request)}
    applied: list[str] = []
    if preferences.respond_async:
        if preferences.wait:
            record = without_large_members(record)  # the request may wait for long
        record, applied = await _await_end(request, record, preferences, since=since)
        status = status if record.status.final else HTTPStatus.ACCEPTED
    headers.update(preferences.applied_to_write(*applied))
    if preferences.minimal or not is_whole(record):  # the members could not be read again
        headers["OData-EntityId"] = headers["Location"]
        empty = status if status is HTTPStatus.ACCEPTED else HTTPStatus.NO_CONTENT
        return _without_body(request, record, headers, status=empty)
    return _response(representation.response_parts(record, headers, status=status))


async def _await_end(
    request: web.Request, record: Record, preferences: Preferences, *, since: HubPosition
) -> tuple[Record, list[str]]:
    """Wait for the end of a created operation, for the time that the client prefers.

    Returns the record, and the preferences that were applied.
    """
    waited = []
    if preferences.wait is not None:
        # The operation is created, even if it is deleted, Redis is away, or the client's token was removed meanwhile.
        with suppress(NotFound, Unavailable, Unauthorized):
            record = await wait_for_end(request, record, preferences.wait, since=since)
        waited = [f"wait={preferences.wait}"]
    return record, waited if record.status.final else ["respond-async", *waited]


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read an operation: 200, or 304 if `If-None-Match` names its ETag.

    With `Prefer: wait=N` the response waits for a change. It does not wait when `If-None-Match` names another ETag,
    because the client does not know the operation's present state then.
    """
    operations, match = request.app[OPERATIONS], request.match_info
    selection = select(request.query.items()) if request.query_string else ALL
    wait = preferences_of(request).wait
    since = operations.position if wait else BEFORE_ALL
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    if "If-Match" in request.headers:
        Preconditions(if_match=_joined(request, "If-Match")).check(record)
    known = _joined(request, "If-None-Match")
    headers: Mapping[str, str] = {}
    if wait is not None:
        headers = preference_applied([f"wait={wait}"])
        if wait and (known is None or etag_matches(known, record)):
            record = without_large_members(record)  # the request may wait for long
            record = await wait_for_change(request, record, wait, since=since)
    if known is not None and etag_matches(known, record):
        return _without_body(request, record, headers, status=HTTPStatus.NOT_MODIFIED)
    return _represent(request, record, headers=headers, selection=selection)


async def cancel(request: web.Request, caller: Caller) -> web.Response:
    """Ask an operation to stop: 202, or 200 if it has ended."""
    operations, match = request.app[OPERATIONS], request.match_info
    reason = _reason(await request_bodies.read_optional_object(request, caller))
    conditions = _preconditions(request)
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    if record.status.final:
        conditions.check(record)
        return _represent(request, record)
    record = await operations.cancel(caller, record.call_id, record.id, reason=reason, conditions=conditions)
    return _represent(request, record, status=HTTPStatus.ACCEPTED)


async def patch(request: web.Request, caller: Caller) -> web.Response:
    """Change an operation's client context and the members that clients may set."""
    match = request.match_info
    body = await request_bodies.read_object(request, caller)
    preferences, conditions = preferences_of(request), _preconditions(request, change=True)
    ids = match["call_id"], match["operation_id"]
    strict = preferences.strict is True
    record = await request.app[OPERATIONS].patch(caller, *ids, body, conditions=conditions, strict=strict)
    if preferences.minimal:
        return _without_body(request, record, preferences.applied_to_write(), status=HTTPStatus.NO_CONTENT)
    return _represent(request, record, headers=preferences.applied_to_write())


async def delete(request: web.Request, caller: Caller) -> web.Response:
    """Hide an operation from all clients. An operation that has not ended is canceled first."""
    match = request.match_info
    conditions = _preconditions(request, change=True)
    await request.app[OPERATIONS].delete(caller, match["call_id"], match["operation_id"], conditions=conditions)
    return web.Response(status=HTTPStatus.NO_CONTENT)


def _represent(
    request: web.Request,
    record: Record,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] = NO_HEADERS,
    selection: Selection = ALL,
) -> web.Response:
    representation = Representation(links(request), request.app[OPERATIONS].estimator, record.call_id, selection)
    return _response(representation.response_parts(record, headers, status=status))


def _response(parts: ResponseParts) -> web.Response:
    return web.Response(body=parts.body, status=parts.status, headers=parts.headers, content_type="application/json")


def _without_body(request: web.Request, record: Record, headers: Mapping[str, str], *, status: int) -> web.Response:
    return web.Response(status=status, headers=with_state(headers, record, request.app[OPERATIONS].estimator))


def _joined(request: web.Request, name: str) -> str | None:
    """The lines of a header, joined by commas (RFC 9110, 5.3); None if it was not sent."""
    return joined(request.headers, name) if name in request.headers else None


def _preconditions(request: web.Request, *, change: bool = False) -> Preconditions:
    """The preconditions of a request.

    Raises PreconditionRequired when the setting `require_if_match` is on and a change has no If-Match.
    """
    if_match, if_none_match = _joined(request, "If-Match"), _joined(request, "If-None-Match")
    if change and if_match is None and request.app[OPERATIONS].settings.require_if_match:
        raise PreconditionRequired("Send If-Match with the ETag of the operation that you change.", target="If-Match")
    return ANY if if_match is if_none_match is None else Preconditions(if_match, if_none_match)


def _reason(body: Json) -> str:
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > REASON_LIMIT:
        raise Invalid(f"reason: must be a string of at most {REASON_LIMIT} characters", target="reason")
    return reason
