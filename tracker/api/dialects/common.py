"""What the other dialects of the API share: errors in a form of their own, options, lists, and their mounting."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from tracker.api.error_responses import headers_of, status_of
from tracker.api.guard import Handler, Route, telling
from tracker.api.headers import whole_number
from tracker.api.odata.query_options import MAX_PAGE_SIZE, PAGE_SIZE
from tracker.domain.operation import Json
from tracker.errors import Detail, Invalid, NotSupported, TrackerError
from tracker.json_codec import encode
from tracker.listing.pager import Cursor, ListQuery, Page

_TOKEN: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error says, in no dialect yet. `cause` is the exception, if it was one."""

    status: int
    message: str
    cause: TrackerError | web.HTTPException | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    details: tuple[Detail, ...] = ()


Form = Callable[[Problem], web.Response]
"""How a dialect writes a problem."""


def spoken(handler: Handler, form: Form) -> Handler:
    """Answer deliberate errors in a dialect's form. A defect of ours is left to the server, which logs it."""

    @wraps(handler)
    async def speak(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            allow: dict[str, str] = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
            return form(Problem(error.status, error.text or error.reason, error, allow))
        except TrackerError as error:
            if status_of(error) is HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return form(Problem(status_of(error), error.message, error, headers_of(error), error.details))

    return speak


def mount(app: web.Application, name: str, routes: Iterable[Route], form: Form) -> None:
    """Add a dialect's routes, all below `/<name>`, and what answers there to any other method or path.

    Of the paths that fit, the first of the first route counts.
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
        handlers[hdrs.METH_OPTIONS] = spoken(telling(allowed, open=False), form)
        handlers[hdrs.METH_ANY] = spoken(_refuse_method(allowed), form)
        for method, handler in handlers.items():
            resource.add_route(method, handler)
    app.router.add_route(hdrs.METH_ANY, f"/{name}{{rest:(?:/.*)?}}", spoken(_refuse_path, form))


def answer(body: Json, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=encode(body), status=status, headers=headers, content_type="application/json")


def options(request: web.Request, *served: str, unserved: frozenset[str] = frozenset()) -> dict[str, str]:
    """The query options that are `served`, by name.

    Raises NotSupported for one that the dialect knows and we do not serve, Invalid for any other, or one there twice.
    """
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in unserved and value:
            raise NotSupported(f"The option {name} is not supported here.", target=name)
        if name not in {*served, *unserved}:
            raise Invalid(f"The option {name[:80]} is not known here.", target=name[:80])
        if name in found:
            raise Invalid(f"The option {name} is there twice.", target=name)
        found[name] = value
    return {name: value for name, value in found.items() if name in served}


def page_size(text: str | None, name: str, *, least: int) -> int:
    """How much an answer shows at most; more than a page may hold is taken as the most, 0 as the default.

    Raises Invalid, naming the option, for less than `least`.
    """
    number = PAGE_SIZE if text is None else whole_number(text)
    if number is None or number < least:
        raise Invalid(f"{name} must be a whole number, at least {least}.", target=name)
    return min(number or PAGE_SIZE, MAX_PAGE_SIZE)


def page_query(size: int, token: str | None, name: str) -> ListQuery:
    """A page of a list, the first or the one that a `page_token` leads to. Raises Invalid, naming the option."""
    if token and not _TOKEN.fullmatch(token):
        raise Invalid(f"{name} is not one that a list has given.", target=name)
    return ListQuery(top=size, cursor=Cursor((int(token),)) if token else None)


def page_token(page: Page) -> str:
    """What leads to the next page; "" when there is none."""
    return "" if page.cursor is None else str(page.cursor.after[0])


def _refuse_method(allowed: list[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, allowed, text=f"{request.method} is not allowed here.")

    return refuse


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound(text=f"There is nothing at {request.path[:200]}.")
