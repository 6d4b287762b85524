"""Every path of the API, once; `app` mounts them and `openapi` describes them."""

from typing import Final

from aiohttp import web

from tracker.api import health, monitor, openapi, operations, streams
from tracker.api.admission import Route, admitted
from tracker.api.links import PREFIXES

COLLECTION: Final = "/communications/calls/{call_id}/operations"
OPERATION: Final = f"{COLLECTION}/{{operation_id}}"
CANCEL: Final = f"{OPERATION}/cancel"
CALL_EVENTS: Final = f"{COLLECTION}/events"
OPERATION_EVENTS: Final = f"{OPERATION}/events"
EVENTS: Final = "/events"
MONITOR: Final = "/operations/{operation_id}"


ROUTES: Final = (
    Route("POST", COLLECTION, admitted(operations.create), "createOperation"),
    Route("GET", COLLECTION, admitted(operations.collect, has_options=True), "listOperations"),
    Route("GET", CALL_EVENTS, admitted(streams.of_call, events=True), "followCall"),  # before an operation's path
    Route("GET", OPERATION, admitted(operations.read), "getOperation"),
    Route("DELETE", OPERATION, admitted(operations.delete), "deleteOperation"),
    Route("POST", CANCEL, admitted(operations.cancel), "cancelOperation"),
    Route("GET", OPERATION_EVENTS, admitted(streams.of_operation, events=True), "followOperation"),
    Route("GET", EVENTS, admitted(streams.of_tenant, events=True), "followAll"),
    Route("GET", MONITOR, admitted(monitor.read), "getMonitor"),
    Route("DELETE", MONITOR, admitted(monitor.cancel), "cancelMonitored"),
    Route("GET", "/healthz", health.healthy, "isHealthy", open=True),
    Route("GET", "/readyz", health.ready, "isReady", open=True),
    Route("GET", "/openapi.json", openapi.serve, "getDescription", open=True),
)


def mount(app: web.Application) -> None:
    """Add every route under every prefix. GET brings HEAD with it."""
    for prefix in PREFIXES:
        for route in ROUTES:
            if not (route.open and prefix):
                _add(app, route, prefix + route.path)


def _add(app: web.Application, route: Route, path: str) -> None:
    # A name is any text: aiohttp's own pattern would leave out braces.
    pattern = path.replace("}", ":[^/]+}")
    if route.method == "GET":
        app.router.add_get(pattern, route.handler)
    else:
        app.router.add_route(route.method, pattern, route.handler)
