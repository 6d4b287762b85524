"""Functions that all dialects share: error responses, query options, pages of lists, and routes."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from tracker.api.error_responses import headers_of, keep_reason, status_of
from tracker.api.guard import Handler, Route, options_handler
from tracker.api.headers import whole_number
from tracker.api.odata.query_options import MAX_PAGE_SIZE, PAGE_SIZE
from tracker.domain.operation import Json
from tracker.errors import Detail, Invalid, NotSupported, TrackerError
from tracker.json_codec import encode
from tracker.listing.query import Cursor, ListQuery, Page

_TOKEN: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, from which a dialect makes its error response. `cause`: the exception, if there was one."""

    status: int
    message: str
    cause: TrackerError | web.HTTPException | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    details: tuple[Detail, ...] = ()


ErrorForm = Callable[[Problem], web.Response]
"""Makes a dialect's error response."""


def with_error_form(handler: Handler, form: ErrorForm) -> Handler:
    """The handler with its errors in a dialect's form.

    An error of the service itself (500) is raised again. The server logs it, and responds with Graph's error body.
    """

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            keep_reason(request, error)
            allow: dict[str, str] = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
            return form(Problem(error.status, error.text or error.reason, error, allow))
        except TrackerError as error:
            if status_of(error) is HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            keep_reason(request, error)
            return form(problem_of(error))

    return handle


def problem_of(error: TrackerError) -> Problem:
    """The problem that a deliberate error is."""
    return Problem(status_of(error), error.message, error, headers_of(error), error.details)


def mount(app: web.Application, name: str, routes: Iterable[Route], form: ErrorForm) -> None:
    """Add a dialect's routes below `/<name>`, and handlers that refuse every other method and path there.

    aiohttp takes the first path that matches. Paths are added in the order of the routes.
    """
    by_path: dict[str, dict[str, Handler]] = defaultdict(dict)
    for route in routes:
        for path in (route.path, *route.aliases):
            by_path[path][route.method] = route.handler
    for path, handlers in by_path.items():
        resource = app.router.add_resource(path.replace("}", ":[^/]+}"))
        if hdrs.METH_GET in handlers:
            handlers[hdrs.METH_HEAD] = handlers[hdrs.METH_GET]
        allowed = sorted({*handlers, hdrs.METH_OPTIONS})
        handlers[hdrs.METH_OPTIONS] = with_error_form(options_handler(allowed, is_open=False), form)
        handlers[hdrs.METH_ANY] = with_error_form(_refuse_method(allowed), form)
        for method, handler in handlers.items():
            resource.add_route(method, handler)
    app.router.add_route(hdrs.METH_ANY, f"/{name}{{rest:(?:/.*)?}}", with_error_form(_refuse_path, form))


def json_response(body: Json, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response with a JSON body."""
    return web.Response(body=encode(body), status=status, headers=headers, content_type="application/json")


def options(request: web.Request, *served: str, unserved: frozenset[str] = frozenset()) -> dict[str, str]:
    """The query options of a request that are in `served`, by name.

    Raises NotSupported for an option in `unserved`: the dialect defines it and this service does not support it. Raises
    Invalid for any other option, and for an option that is given twice.
    """
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in unserved and value:
            raise NotSupported(f"The option {name} is not supported here.", target=name)
        if name not in {*served, *unserved}:
            raise Invalid(f"The option {name[:80]} is unknown here.", target=name[:80])
        if name in given:
            raise Invalid(f"The option {name} is given twice.", target=name)
        given[name] = value
    return {name: value for name, value in given.items() if name in served}


def page_size(text: str | None, name: str, *, least: int) -> int:
    """How many items a page has at most. 0 means the default; a number over MAX_PAGE_SIZE means MAX_PAGE_SIZE.

    Raises Invalid, with the name of the option, for a number below `least`.
    """
    number = PAGE_SIZE if text is None else whole_number(text)
    if number is None or number < least:
        raise Invalid(f"{name} must be a whole number, at least {least}.", target=name)
    return min(number or PAGE_SIZE, MAX_PAGE_SIZE)


def page_query(size: int, token: str | None, name: str) -> ListQuery:
    """The query for the page at `token`, which `page_token` has made. Without a token, the page is the first one.

    Raises Invalid, with the name of the option, for any other text.
    """
    if token and not _TOKEN.fullmatch(token):
        raise Invalid(f"{name} is not a value that a list has returned.", target=name)
    return ListQuery(top=size, cursor=Cursor((int(token),)) if token else None)


def page_token(page: Page) -> str:
    """The token of the next page; "" after the last page."""
    return "" if page.cursor is None else str(page.cursor.after[0])


def _refuse_method(allowed: list[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, allowed, text=f"{request.method} is not allowed here.")

    return refuse


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound(text=f"There is nothing at {request.path[:200]}.")
