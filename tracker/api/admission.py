"""What every request to an operation passes first, and the things that handlers find in the application."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tracker.api.auth import Callers
from tracker.api.headers import accepts_events, accepts_json
from tracker.api.links import Addresses, Links
from tracker.api.odata import refuse_options
from tracker.errors import Invalid
from tracker.service import Caller, Operations

OPERATIONS: Final = web.AppKey("operations", Operations)
CALLERS: Final = web.AppKey("callers", Callers)
ADDRESSES: Final = web.AppKey("addresses", Addresses)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Resource = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path. `open`: without a token, and at the root only."""

    method: str
    path: str
    handler: Handler
    name: str
    open: bool = False


def admitted(resource: Resource, *, has_options: bool = False, events: bool = False) -> Handler:
    """Let in who carries a known token and takes JSON, or `events`.

    Query options are refused here unless the resource reads them itself (`has_options`).
    """
    accepts, answer = (accepts_events, "text/event-stream") if events else (accepts_json, "application/json")

    async def admit(request: web.Request) -> web.StreamResponse:
        caller = request.app[CALLERS].identify(request.headers.get("Authorization"))
        if not accepts(", ".join(request.headers.getall("Accept", ()))):
            raise web.HTTPNotAcceptable(text=f"The answer is {answer}, which the Accept header excludes.")
        _refuse_broken_utf8(request.raw_path)
        if request.query_string and not has_options:
            refuse_options(request.query.items())
        return await resource(request, caller)

    return admit


def links(request: web.Request) -> Links:
    """The addresses of what this request's answer names."""
    return request.app[ADDRESSES].links(request)


def _refuse_broken_utf8(path: str) -> None:
    """Bytes that are no UTF-8 arrive as lone surrogates, which neither JSON nor Redis can hold."""
    if path.isascii():
        return
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Invalid("The path and query must be UTF-8, percent-encoded.") from None
