"""`/communications/calls/{callId}/operations/{id}`: one operation; `collection` lists them."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from tracker.api import idempotency, request_bodies
from tracker.api.guard import OPERATIONS, links
from tracker.api.long_poll import hold, hold_to_end
from tracker.api.odata.query_options import select
from tracker.api.odata.select import ALL, Selection
from tracker.api.prefer import NONE, Preferences, applied, preferences_of
from tracker.api.representation import Answer, Representation, state_headers
from tracker.bodies.preconditions import ANY, Preconditions, etag_matches
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.errors import Invalid, NotFound, PreconditionRequired, Reused, Unavailable
from tracker.events.record_waiter import BEFORE_ALL, HubPosition
from tracker.service import REASON_LIMIT, Caller

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


async def create(request: web.Request, caller: Caller) -> web.Response:
    """Accept an operation: 201, or 200 with the stored one when the same request came before.

    `Prefer: respond-async` makes it 202, unless the operation ends within the `wait` that comes with it.
    """
    return await accept(request, caller, await request_bodies.read_object(request), created=HTTPStatus.CREATED)


async def accept(request: web.Request, caller: Caller, body: Json, *, created: HTTPStatus) -> web.Response:
    """Create an operation of this body in the path's call, and answer a new one with `created`."""
    preferences = preferences_of(request)
    since = request.app[OPERATIONS].position if preferences.respond_async else BEFORE_ALL
    record, new = await _accept(request, caller, body, preferences)
    representation = _representation(request, record.call_id)
    status = created if new else HTTPStatus.OK
    headers = {**representation.location_headers(record), **idempotency.result_headers(request)}
    if preferences is NONE:
        return _whole(representation.answer(record, headers, status=status))
    honoured: list[str] = []
    if preferences.respond_async:
        record, honoured = await _await_end(request, record, preferences, since=since)
        status = status if record.status.final else HTTPStatus.ACCEPTED
    headers.update(preferences.applied(*honoured))
    if preferences.minimal:
        headers["OData-EntityId"] = headers["Location"]
        empty = status if status is HTTPStatus.ACCEPTED else HTTPStatus.NO_CONTENT
        return _without_body(request, record, headers, status=empty)
    return _whole(representation.answer(record, headers, status=status))


async def _accept(request: web.Request, caller: Caller, body: Json, preferences: Preferences) -> tuple[Record, bool]:
    operations, call_id = request.app[OPERATIONS], request.match_info["call_id"]
    once = idempotency.name_of(request, remembered=operations.settings.idempotency)
    try:
        return await operations.create(caller, call_id, body, idempotency_key=once, strict=preferences.strict is True)
    except Reused:
        raise idempotency.refusal(request) from None


async def _await_end(
    request: web.Request, record: Record, preferences: Preferences, *, since: HubPosition
) -> tuple[Record, list[str]]:
    """Wait for the end of an accepted operation, as its client prefers.

    Returns the record and the preferences that were applied.
    """
    waited = []
    if preferences.wait is not None:
        with suppress(NotFound, Unavailable):  # deleted meanwhile, or Redis went: it was accepted all the same
            record = await hold_to_end(request, record, preferences.wait, since=since)
        waited = [f"wait={preferences.wait}"]
    return record, waited if record.status.final else ["respond-async", *waited]


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read an operation; 304 when `If-None-Match` names it as it is, at once or after `Prefer: wait=N`."""
    operations, match = request.app[OPERATIONS], request.match_info
    selection = select(request.query.items()) if request.query_string else ALL
    wait = preferences_of(request).wait
    since = operations.position if wait else BEFORE_ALL
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    if "If-Match" in request.headers:
        Preconditions(if_match=_lines(request, "If-Match")).check(record)
    known = _lines(request, "If-None-Match")
    headers: Mapping[str, str] = {}
    if wait is not None:
        headers = applied([f"wait={wait}"])
        if wait and (known is None or etag_matches(known, record)):
            record = await hold(request, record, wait, since=since)
    if known is not None and etag_matches(known, record):
        return _without_body(request, record, headers, status=HTTPStatus.NOT_MODIFIED)
    return _represent(request, record, headers=headers, selection=selection)


async def cancel(request: web.Request, caller: Caller) -> web.Response:
    """Ask an operation to stop: 202, or 200 when it had ended before."""
    operations, match = request.app[OPERATIONS], request.match_info
    reason = _reason(await request_bodies.read_optional_object(request))
    conditions = _preconditions(request)
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    if record.status.final:
        conditions.check(record)
        return _represent(request, record)
    record = await operations.cancel(caller, record.call_id, record.id, reason=reason, conditions=conditions)
    return _represent(request, record, status=HTTPStatus.ACCEPTED)


async def patch(request: web.Request, caller: Caller) -> web.Response:
    """Change an operation's client context and the members that are the client's own."""
    match = request.match_info
    body = await request_bodies.read_object(request)
    preferences, conditions = preferences_of(request), _preconditions(request, change=True)
    ids = match["call_id"], match["operation_id"]
    strict = preferences.strict is True
    record = await request.app[OPERATIONS].patch(caller, *ids, body, conditions=conditions, strict=strict)
    if preferences.minimal:
        return _without_body(request, record, preferences.applied(), status=HTTPStatus.NO_CONTENT)
    return _represent(request, record, headers=preferences.applied())


async def delete(request: web.Request, caller: Caller) -> web.Response:
    """Hide an operation; one that has not ended is canceled first."""
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
    return _whole(_representation(request, record.call_id, selection).answer(record, headers, status=status))


def _representation(request: web.Request, call_id: str, selection: Selection = ALL) -> Representation:
    return Representation(links(request), request.app[OPERATIONS].pace, call_id, selection)


def _whole(answer: Answer) -> web.Response:
    return web.Response(body=answer.body, status=answer.status, headers=answer.headers, content_type="application/json")


def _without_body(request: web.Request, record: Record, headers: Mapping[str, str], *, status: int) -> web.Response:
    return web.Response(status=status, headers={**headers, **state_headers(request.app[OPERATIONS].pace, record)})


def _lines(request: web.Request, name: str) -> str | None:
    lines = request.headers.getall(name, ())
    return ", ".join(lines) if lines else None


def _preconditions(request: web.Request, *, change: bool = False) -> Preconditions:
    """What must hold. Raises PreconditionRequired for a change without what the settings ask for."""
    if_match, if_none_match = _lines(request, "If-Match"), _lines(request, "If-None-Match")
    if change and if_match is None and request.app[OPERATIONS].settings.require_if_match:
        raise PreconditionRequired("Send the ETag that the operation must still have: If-Match.", target="If-Match")
    return ANY if if_match is if_none_match is None else Preconditions(if_match, if_none_match)


def _reason(body: Json) -> str:
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > REASON_LIMIT:
        raise Invalid(f"reason: must be a string of at most {REASON_LIMIT} characters", target="reason")
    return reason
