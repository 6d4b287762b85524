"""`/communications/calls/{callId}/operations/{id}`: one operation; `collection` lists them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from tracker.api import idempotency, request_bodies
from tracker.api.guard import OPERATIONS, links
from tracker.api.long_poll import hold, hold_to_end
from tracker.api.odata.query_options import select
from tracker.api.odata.select import ALL, Selection
from tracker.api.prefer import NONE, VARY, Preferences, applied, preferences_of
from tracker.api.serializers import resource
from tracker.bodies.preconditions import ANY, Preconditions, etag_matches
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.errors import Invalid, NotFound, PreconditionRequired, Reused, Unavailable
from tracker.events.record_waiter import BEFORE_ALL, HubPosition
from tracker.json_codec import encode
from tracker.retry_after import RetryAfterEstimator
from tracker.service import REASON_LIMIT, Caller

if TYPE_CHECKING:
    from tracker.store.create_args import CreateArgs
    from tracker.store.store import Created

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


async def create(request: web.Request, caller: Caller) -> web.Response:
    """Accept an operation: 201, or 200 with the stored one when the same request came before.

    `Prefer: respond-async` makes it 202, unless the operation ends within the `wait` that comes with it.
    """
    if (many := request_bodies.read_objects(request)) is not None:
        return Answers(await _accept_each(request, caller, many))
    return await accept(request, caller, await request_bodies.read_object(request), created=HTTPStatus.CREATED)


class Answer(NamedTuple):
    """What an answer is made of."""

    status: int
    headers: dict[str, str]
    body: bytes


class Answers(web.Response):
    """The answers to many requests that stood as one, or what was raised instead; they are taken out, not sent.

    Its headers are what all of them have in common, but for the request's name.
    """

    def __init__(self, each: Sequence[Answer | Exception]) -> None:
        super().__init__(content_type="application/json")
        self.each = each


async def _accept_each(
    request: web.Request, caller: Caller, many: Iterable[Json | Invalid]
) -> list[Answer | Exception]:
    """Create an operation of each of these bodies in the path's call, all by one script; they have no preferences."""
    operations, call_id = request.app[OPERATIONS], request.match_info["call_id"]
    await operations.turn()
    drafts: list[CreateArgs | Exception] = []
    for body in many:
        try:
            drafts.append(body if isinstance(body, Invalid) else operations.draft(caller, call_id, body))
        except Exception as error:  # noqa: BLE001 - it is the answer to this one alone
            drafts.append(error)
    wanted = [draft for draft in drafts if not isinstance(draft, Exception)]
    became: Iterable[Created | Exception]
    try:
        became = await operations.create_each(caller, wanted)
    except Exception as error:  # noqa: BLE001 - what became of them is not known, so that nobody may try again
        became = [error] * len(wanted)
    each, showing = iter(became), _Showing(request, call_id)
    answers: list[Answer | Exception] = []
    for draft in drafts:
        one = draft if isinstance(draft, Exception) else next(each)
        try:
            answers.append(one if isinstance(one, Exception) else _accepted(showing, *one))
        except Exception as error:  # noqa: BLE001 - they were created: see above
            answers.append(error)
    return answers


def _accepted(showing: "_Showing", record: Record, new: bool) -> Answer:  # noqa: FBT001 - as the service says it
    return showing.answer(record, showing.places(record), status=HTTPStatus.CREATED if new else HTTPStatus.OK)


async def accept(request: web.Request, caller: Caller, body: Json, *, created: HTTPStatus) -> web.Response:
    """Create an operation of this body in the path's call, and answer a new one with `created`."""
    preferences = preferences_of(request)
    since = request.app[OPERATIONS].position if preferences.respond_async else BEFORE_ALL
    record, new = await _accept(request, caller, body, preferences)
    showing = _Showing(request, record.call_id)
    status = created if new else HTTPStatus.OK
    headers = {**showing.places(record), **idempotency.result_headers(request)}
    if preferences is NONE:
        return _whole(showing.answer(record, headers, status=status))
    honoured: list[str] = []
    if preferences.respond_async:
        record, honoured = await _await_end(request, record, preferences, since=since)
        status = status if record.status.final else HTTPStatus.ACCEPTED
    headers.update(preferences.applied(*honoured))
    if preferences.minimal:
        headers["OData-EntityId"] = headers["Location"]
        empty = status if status is HTTPStatus.ACCEPTED else HTTPStatus.NO_CONTENT
        return _without_body(request, record, headers, status=empty)
    return _whole(showing.answer(record, headers, status=status))


async def _accept(request: web.Request, caller: Caller, body: Json, preferences: Preferences) -> tuple[Record, bool]:
    operations, call_id = request.app[OPERATIONS], request.match_info["call_id"]
    once = idempotency.name_of(request, remembered=operations.settings.idempotency)
    try:
        return await operations.create(caller, call_id, body, once=once, strict=preferences.strict is True)
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


def retry_after(pace: RetryAfterEstimator, record: Record) -> dict[str, str]:
    """When to ask again, for an operation that has not ended; an integer, because Graph's clients ignore fractions."""
    return {} if record.status.final else {"Retry-After": str(pace.retry_after(record))}


def _represent(
    request: web.Request,
    record: Record,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] = NO_HEADERS,
    selection: Selection = ALL,
) -> web.Response:
    return _whole(_Showing(request, record.call_id, selection).answer(record, headers, status=status))


class _Showing:
    """How answers to one request show operations of a call. What they have in common is made once."""

    def __init__(self, request: web.Request, call_id: str, selection: Selection = ALL) -> None:
        link = links(request)
        self._pace, self._selection = request.app[OPERATIONS].pace, selection
        self._context = f"{selection.context(link.context(call_id))}/$entity"
        self._location, self._monitor = link.operation(call_id, ""), link.monitor("")

    def places(self, record: Record) -> dict[str, str]:
        """Where an accepted operation and its status are."""
        return {"Location": self._location + record.id, "Operation-Location": self._monitor + record.id}

    def answer(self, record: Record, headers: Mapping[str, str], *, status: int) -> Answer:
        """The operation as it is, with these headers."""
        body = self._selection.of(resource(record, context=self._context))
        return Answer(status, _with_state(self._pace, record, headers), encode(body))


def _whole(answer: Answer) -> web.Response:
    return web.Response(body=answer.body, status=answer.status, headers=answer.headers, content_type="application/json")


def _without_body(request: web.Request, record: Record, headers: Mapping[str, str], *, status: int) -> web.Response:
    return web.Response(status=status, headers=_with_state(request.app[OPERATIONS].pace, record, headers))


def _with_state(pace: RetryAfterEstimator, record: Record, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, **VARY, "ETag": record.etag, **retry_after(pace, record)}


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
