"""The table of the API's routes. `app` mounts the routes, and `openapi` describes them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from aiohttp import web

from tracker.api import actions, collection, health, monitor, operations, sse
from tracker.api.batch import handler as batch
from tracker.api.dialects import common as dialects
from tracker.api.dialects import google, ogc, ogc_processes
from tracker.api.error_responses import keep_reason
from tracker.api.guard import CallerHandler, Route, guarded, options_handler
from tracker.api.links import PREFIXES
from tracker.api.openapi import docs_page, document, metadata
from tracker.api.server import Refuse
from tracker.api.site_guard import SiteGuard
from tracker.errors import TrackerError

CALL: Final = "/communications/calls/{call_id}"
COLLECTION: Final = f"{CALL}/operations"
COUNT: Final = f"{COLLECTION}/$count"
OPERATION: Final = f"{COLLECTION}/{{operation_id}}"
CANCEL: Final = f"{OPERATION}/cancel"
CALL_EVENTS: Final = f"{COLLECTION}/events"
OPERATION_EVENTS: Final = f"{OPERATION}/events"
EVENTS: Final = "/events"
MONITOR: Final = "/operations/{operation_id}"
GOOGLE_LIST: Final = "/calls/{call_id}/operations"
PROCESS: Final = "/processes/{process_id}"
JOB: Final = "/jobs/{operation_id}"

PATTERNS: Final = {"action": actions.UNSERVED_PATTERN, "operation_id": r"(?!(?:\$count|events)(?:/|$))[^/]+"}
"""The patterns of some parameters of paths. A parameter without a pattern here matches every segment: aiohttp's default
would not match braces.

The id of an operation does not match `$count` and `events`, which have paths of their own: so `DELETE …/$count` is 405.
"""
FORMS: Final[Mapping[str, dialects.ErrorForm]] = {"google": google.problem, "ogc": ogc.problem}
"""The function of each dialect that writes an error."""


def _action(name: str) -> Route:
    path = f"{CALL}/{name}"
    qualified = f"{CALL}/{actions.NAMESPACE}{name}"
    return Route("POST", path, guarded(actions.action_handler(name)), name, aliases=(qualified,))


def _google(method: str, path: str, handler: CallerHandler, name: str) -> Route:
    in_dialect = dialects.with_error_form(guarded(handler, reads_options=True), google.problem)
    # google.api_core.operation.from_http_json asks for `operations/` and then the whole name.
    return Route(method, f"/google{path}", in_dialect, name, dialect="google", aliases=(f"/google/operations{path}",))


def _google_operation(path: str, noun: str) -> tuple[Route, ...]:
    """The routes of one operation. Paths with a verb come first, else the verb would be taken for a part of the id."""
    return (
        _google("POST", f"{path}:cancel", google.cancel, f"googleCancel{noun}"),
        _google("POST", f"{path}:wait", google.wait, f"googleWait{noun}"),
        _google("GET", path, google.read, f"googleGet{noun}"),
        _google("DELETE", path, google.delete, f"googleDelete{noun}"),
    )


def _ogc(method: str, path: str, handler: CallerHandler, name: str, *aliases: str) -> Route:
    in_dialect = dialects.with_error_form(guarded(handler, reads_options=True), ogc.problem)
    return Route(method, f"/ogc{path}", in_dialect, name, dialect="ogc", aliases=aliases)


ROUTES: Final = (
    Route("POST", COLLECTION, guarded(operations.create), "createOperation"),
    Route("GET", COLLECTION, guarded(collection.read, reads_options=True), "listOperations"),
    Route("GET", COUNT, guarded(collection.count, reads_options=True, answers_any_type=True), "countOperations"),
    Route("GET", CALL_EVENTS, guarded(sse.follow_call, answers_events=True), "followCall"),  # before OPERATION
    Route("GET", OPERATION, guarded(operations.read, reads_options=True), "getOperation"),
    Route("PATCH", OPERATION, guarded(operations.patch), "updateOperation"),
    Route("DELETE", OPERATION, guarded(operations.delete), "deleteOperation"),
    Route("POST", CANCEL, guarded(operations.cancel), "cancelOperation"),
    Route("GET", OPERATION_EVENTS, guarded(sse.follow_operation, answers_events=True), "followOperation"),
    Route("GET", EVENTS, guarded(sse.follow_tenant, answers_events=True), "followAll"),
    *(_action(name) for name in actions.ACTIONS),
    Route("POST", f"{CALL}/{{action}}", guarded(actions.refuse), "refuseAction"),
    Route("GET", MONITOR, guarded(monitor.read), "getMonitor"),
    Route("DELETE", MONITOR, guarded(monitor.cancel), "cancelMonitored"),
    Route("POST", "/$batch", guarded(batch.run), "runBatch"),
    Route("GET", "/healthz", health.live, "isHealthy", open=True),
    Route("GET", "/readyz", health.ready, "isReady", open=True),
    Route("GET", "/openapi.json", document.serve, "getDescription", open=True),
    Route("GET", "/$metadata", metadata.serve, "getMetadata", open=True, prefixed=True),
    Route("GET", "/docs", docs_page.serve, "getPage", open=True),
    Route("GET", "/docs/assets/{file}", docs_page.serve_file, "getPageFile", open=True),
    *_google_operation("/operations/{operation_id}", "Operation"),
    *_google_operation(f"{GOOGLE_LIST}/{{operation_id}}", "OperationOfCall"),
    _google("GET", GOOGLE_LIST, google.collect, "googleListOperations"),
    _google("GET", "/operations", google.refuse, "googleListAllOperations"),
    _ogc("GET", "/", ogc_processes.landing, "ogcGetLandingPage", "/ogc"),
    _ogc("GET", "/conformance", ogc_processes.conformance, "ogcGetConformance"),
    _ogc("GET", "/processes", ogc_processes.collect, "ogcListProcesses"),
    _ogc("GET", PROCESS, ogc_processes.read, "ogcGetProcess"),
    _ogc("POST", f"{PROCESS}/execution", ogc_processes.execute, "ogcExecute"),
    _ogc("GET", "/jobs", ogc.collect, "ogcListJobs"),
    _ogc("GET", JOB, ogc.read, "ogcGetJob"),
    _ogc("DELETE", JOB, ogc.dismiss, "ogcDismissJob"),
    _ogc("GET", f"{JOB}/results", ogc.results, "ogcGetResults"),
)


def routes_of(names: Collection[str]) -> tuple[Route, ...]:
    """The routes of Graph's API and of the dialects with these names."""
    return tuple(route for route in ROUTES if not route.dialect or route.dialect in names)


def refuser(guard: SiteGuard, names: Collection[str]) -> Refuse:
    """The check before routing, with the errors of these dialects in their forms."""
    forms = {name: FORMS[name] for name in names}

    def refuse(request: web.BaseRequest) -> web.Response | None:
        try:
            guard.check(request)
        except TrackerError as error:
            form = forms.get(request.path.removeprefix("/").partition("/")[0])
            if form is None:
                raise
            keep_reason(request, error)
            return form(dialects.problem_of(error))
        return None

    return refuse


def mount(app: web.Application, routes: Iterable[Route]) -> None:
    """Add each route under each of its prefixes. A path with GET has HEAD, too, and every path has OPTIONS."""
    routes = tuple(routes)
    for prefix in PREFIXES:
        for path in dict.fromkeys(route.path for route in routes if not route.dialect):
            same = [route for route in routes if route.path == path]
            if prefix in same[0].prefixes:
                for spelling in (path, *same[0].aliases):
                    _add(app, prefix + spelling, same)
    for name in sorted({route.dialect for route in routes if route.dialect}):
        dialects.mount(app, name, [route for route in routes if route.dialect == name], FORMS[name])


def _add(app: web.Application, path: str, routes: Sequence[Route]) -> None:
    pattern = re.sub(r"\{(\w+)\}", lambda name: f"{{{name[1]}:{PATTERNS.get(name[1], '[^/]+')}}}", path)
    resource = app.router.add_resource(pattern)
    handlers = {route.method: route.handler for route in routes}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    handlers["OPTIONS"] = options_handler({*handlers, "OPTIONS"}, is_open=routes[0].open)
    for method, handler in handlers.items():
        resource.add_route(method, handler)
