"""`/communications/calls/{callId}/operations`: the operations of a call, and one of them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tracker.api import bodies
from tracker.api.admission import OPERATIONS, links
from tracker.api.headers import preferences, whole_number
from tracker.api.links import Links
from tracker.api.odata import Listing, next_page, parse_listing
from tracker.api.waits import hold
from tracker.api.wire import encode, resource
from tracker.errors import Invalid
from tracker.model import Json, Record
from tracker.service import REASON_LIMIT, Caller, Page, etag_matches

MAX_WAIT: Final = 60
"""Most seconds that `Prefer: wait=N` holds an answer."""


async def create(request: web.Request, caller: Caller) -> web.Response:
    """Accept an operation: 201, or 200 with the stored one when the same request came before."""
    call_id = request.match_info["call_id"]
    body = await bodies.read_object(request)
    record, new = await request.app[OPERATIONS].create(caller, call_id, body)
    link = links(request)
    return _represent(
        request,
        record,
        status=HTTPStatus.CREATED if new else HTTPStatus.OK,
        headers={
            "Location": link.operation(record.call_id, record.id),
            "Operation-Location": link.monitor(record.id),
        },
    )


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read an operation; 304 when `If-None-Match` names it as it is, at once or after `Prefer: wait=N`."""
    operations, match = request.app[OPERATIONS], request.match_info
    mark = operations.mark
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    known = _lines(request, "If-None-Match")
    headers = {}
    wait = _wait(request)
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        if wait and (known is None or etag_matches(known, record)):
            record = await hold(request, caller, record, wait, mark=mark)
    if known is not None and etag_matches(known, record):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers | _state_headers(request, record))
    return _represent(request, record, headers=headers)


async def collect(request: web.Request, caller: Caller) -> web.Response:
    """List a call's operations, newest first, page by page."""
    call_id = request.match_info["call_id"]
    pairs = tuple(request.query.items())
    wishes = preferences(request.headers.getall("Prefer", ()))
    listing = parse_listing(pairs, call_id=call_id, preferences=wishes)
    page = await request.app[OPERATIONS].list(caller, call_id, listing.query)
    body = _collection(page, listing, links(request), call_id, pairs)
    applied = listing.preference_applied
    return _json(body, headers={} if applied is None else {"Preference-Applied": applied})


async def cancel(request: web.Request, caller: Caller) -> web.Response:
    """Ask an operation to stop: 202, or 200 when it had ended before."""
    operations, match = request.app[OPERATIONS], request.match_info
    reason = _reason(await bodies.read_optional_object(request))
    record = await operations.get(caller, match["call_id"], match["operation_id"])
    if record.status.final:
        return _represent(request, record)
    record = await operations.cancel(caller, record.call_id, record.id, reason=reason)
    return _represent(request, record, status=HTTPStatus.ACCEPTED)


async def delete(request: web.Request, caller: Caller) -> web.Response:
    """Hide an operation; one that has not ended is canceled first."""
    match = request.match_info
    if_match = _lines(request, "If-Match")
    await request.app[OPERATIONS].delete(caller, match["call_id"], match["operation_id"], if_match=if_match)
    return web.Response(status=HTTPStatus.NO_CONTENT)


def retry_after(request: web.Request, record: Record) -> dict[str, str]:
    """When to ask again, for an operation that has not ended; an integer, because Graph's clients ignore fractions."""
    return {} if record.status.final else {"Retry-After": str(request.app[OPERATIONS].pace.retry_after(record))}


def _represent(
    request: web.Request, record: Record, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> web.Response:
    body = resource(record, context=f"{links(request).context(record.call_id)}/$entity")
    return _json(body, status=status, headers=(headers or {}) | _state_headers(request, record))


def _state_headers(request: web.Request, record: Record) -> dict[str, str]:
    return {"ETag": record.etag, **retry_after(request, record)}


def _collection(page: Page, listing: Listing, link: Links, call_id: str, pairs: Sequence[tuple[str, str]]) -> Json:
    body: dict[str, Any] = {"@odata.context": link.context(call_id)}
    if page.count is not None:
        body["@odata.count"] = page.count
    body["value"] = [] if listing.empty else [resource(record) for record in page.records]
    if page.cursor is not None and not listing.empty:
        query = next_page(pairs, call_id=call_id, query=listing.query, cursor=page.cursor)
        body["@odata.nextLink"] = f"{link.collection(call_id)}?{query}"
    return body


def _json(body: Json, *, status: int = HTTPStatus.OK, headers: dict[str, str]) -> web.Response:
    return web.Response(body=encode(body), status=status, headers=headers, content_type="application/json")


def _wait(request: web.Request) -> int | None:
    lines = request.headers.getall("Prefer", ())
    seconds = whole_number(preferences(lines).get("wait")) if lines else None
    return None if seconds is None else min(seconds, MAX_WAIT)


def _lines(request: web.Request, name: str) -> str | None:
    lines = request.headers.getall(name, ())
    return ", ".join(lines) if lines else None


def _reason(body: Json) -> str:
    reason = body.get("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > REASON_LIMIT:
        raise Invalid(f"reason: must be a string of at most {REASON_LIMIT} characters", target="reason")
    return reason
