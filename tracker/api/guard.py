"""What every request to an operation passes first, and the things that handlers find in the application."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Final

from aiohttp import web

from tracker.api.auth import Callers
from tracker.api.headers import accepts_events, accepts_json, check_odata_versions
from tracker.api.links import PREFIXES, Addresses, Links
from tracker.api.odata.query_options import refuse_options
from tracker.domain.type_registry import TypeRegistry
from tracker.errors import Invalid
from tracker.service import Caller, Operations

OPERATIONS: Final = web.AppKey("operations", Operations)
CALLERS: Final = web.AppKey("callers", Callers)
REGISTRY: Final = web.AppKey("registry", TypeRegistry)
ADDRESSES: Final = web.AppKey("addresses", Addresses)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Resource = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path. `open`: without a token, and at the root only, unless it is `prefixed` like the rest.

    `dialect` names whose it is, "" stands for Graph's: another's stands at the root only, where settings name it.
    `aliases` are other spellings of the path.
    """

    method: str
    path: str
    handler: Handler
    name: str
    open: bool = False
    prefixed: bool = False
    dialect: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What it stands under."""
        return ("",) if self.dialect or (self.open and not self.prefixed) else PREFIXES


def admitted(
    resource: Resource, *, has_options: bool = False, takes_any: bool = False, events: bool = False
) -> Handler:
    """Let in who carries a known token and takes JSON, or `events`, or, where neither is answered, `takes_any`.

    Query options are refused here unless the resource reads them itself (`has_options`).
    """
    accepts, answer = (accepts_events, "text/event-stream") if events else (accepts_json, "application/json")

    @wraps(resource)
    async def admit(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        caller = request.app[CALLERS].identify(headers.get("Authorization"))
        if "OData-Version" in headers or "OData-MaxVersion" in headers:
            check_odata_versions(headers.get("OData-Version"), headers.get("OData-MaxVersion"))
        if not takes_any and not accepts(", ".join(headers.getall("Accept", ()))):
            raise web.HTTPNotAcceptable(text=f"The answer is {answer}, which the Accept header excludes.")
        _refuse_broken_utf8(request.raw_path)
        if request.query_string and not has_options:
            refuse_options(request.query.items())
        return await resource(request, caller)

    return admit


def telling(methods: Iterable[str], *, open: bool) -> Handler:  # noqa: A002 - the word that Route has for it
    """Answer OPTIONS with the methods of a path, to who may use them."""
    allowed = ",".join(sorted(methods))

    async def tell(request: web.Request) -> web.StreamResponse:
        if not open:
            request.app[CALLERS].identify(request.headers.get("Authorization"))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})

    return tell


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
