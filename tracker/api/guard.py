"""The checks before a handler runs, the form of a route, and the keys of the application's parts."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Final

from aiohttp import web

from tracker.api.answers import is_large, send_counted
from tracker.api.auth import Authenticator, Callers
from tracker.api.headers import ODATA_MAX_VERSION, ODATA_VERSION, accepts, check_odata_versions, joined, single
from tracker.api.links import PREFIXES, Links, PublicUrl
from tracker.api.odata.query_options import refuse_options
from tracker.domain.type_registry import TypeRegistry
from tracker.errors import Invalid
from tracker.service import Caller, Operations

OPERATIONS: Final = web.AppKey("operations", Operations)
CALLERS: Final = web.AppKey("callers", Callers)
AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)
REGISTRY: Final = web.AppKey("registry", TypeRegistry)
PUBLIC_URL: Final = web.AppKey("public_url", PublicUrl)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CallerHandler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
"""A handler that also gets the authenticated caller."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path."""

    method: str
    path: str
    handler: Handler
    name: str
    open: bool = False
    """Whether it is served without a token. An open route is at the root only, unless it is `prefixed`."""
    prefixed: bool = False
    """Whether an open route is served under the other prefixes, too."""
    dialect: str = ""
    """The dialect that it belongs to; "" for Graph's API. A dialect's routes are at the root only."""
    aliases: tuple[str, ...] = ()
    """Other spellings of the path."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of its path."""
        return ("",) if self.dialect or (self.open and not self.prefixed) else PREFIXES


def guarded(
    handler: CallerHandler, *, reads_options: bool = False, answers_any_type: bool = False, answers_events: bool = False
) -> Handler:
    """A handler that checks a request before this handler runs: token, OData versions, Accept, path, query options.

    A large response is sent here, so that its bytes are counted until it is sent.

    Accept must allow JSON. For a handler that `answers_events` it must allow a stream of events, and for a handler that
    `answers_any_type` it is not checked. Query options are refused, unless the handler `reads_options` by itself.
    """
    media_type = "text/event-stream" if answers_events else "application/json"

    @wraps(handler)
    async def check_and_handle(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        caller = request.app[AUTHENTICATOR].caller_of(request)
        check_odata_versions(single(headers, ODATA_VERSION), single(headers, ODATA_MAX_VERSION))
        if not answers_any_type and not accepts(joined(headers, "Accept"), media_type):
            raise web.HTTPNotAcceptable(text=f"The response is {media_type}, which the Accept header excludes.")
        _refuse_broken_utf8(request.raw_path)
        if request.query_string and not reads_options:
            refuse_options(request.query.items())
        response = await handler(request, caller)
        if is_large(response, request):
            return await send_counted(request, response, caller.tenant)
        return response

    return check_and_handle


def options_handler(methods: Iterable[str], *, is_open: bool) -> Handler:
    """A handler of OPTIONS that names the methods of a path. It needs a token, unless the path `is_open`."""
    allowed = ",".join(sorted(methods))

    async def name_methods(request: web.Request) -> web.StreamResponse:
        if not is_open:
            request.app[AUTHENTICATOR].caller_of(request)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})

    return name_methods


def links(request: web.Request) -> Links:
    """The links of the response to this request."""
    return request.app[PUBLIC_URL].links(request)


def _refuse_broken_utf8(path: str) -> None:
    """Refuse bytes that are no UTF-8: aiohttp reads them as lone surrogates, which neither JSON nor Redis can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Invalid("The path and query must be UTF-8, percent-encoded.") from None
