"""Every path of the API, once; `app` mounts them and `openapi` describes them."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from tracker.api import collection, health, metadata, monitor, openapi, operations, page
from tracker.api.admission import Route, admitted, telling
from tracker.api.links import PREFIXES

COLLECTION: Final = "/communications/calls/{call_id}/operations"
COUNT: Final = f"{COLLECTION}/$count"
OPERATION: Final = f"{COLLECTION}/{{operation_id}}"
CANCEL: Final = f"{OPERATION}/cancel"
MONITOR: Final = "/operations/{operation_id}"


ROUTES: Final = (
    Route("POST", COLLECTION, admitted(operations.create), "createOperation"),
    Route("GET", COLLECTION, admitted(collection.collect, has_options=True), "listOperations"),
    Route("GET", COUNT, admitted(collection.count, has_options=True, takes_any=True), "countOperations"),
    Route("GET", OPERATION, admitted(operations.read, has_options=True), "getOperation"),
    Route("PATCH", OPERATION, admitted(operations.patch), "updateOperation"),
    Route("DELETE", OPERATION, admitted(operations.delete), "deleteOperation"),
    Route("POST", CANCEL, admitted(operations.cancel), "cancelOperation"),
    Route("GET", MONITOR, admitted(monitor.read), "getMonitor"),
    Route("DELETE", MONITOR, admitted(monitor.cancel), "cancelMonitored"),
    Route("GET", "/healthz", health.healthy, "isHealthy", open=True),
    Route("GET", "/readyz", health.ready, "isReady", open=True),
    Route("GET", "/openapi.json", openapi.serve, "getDescription", open=True),
    Route("GET", "/$metadata", metadata.serve, "getMetadata", open=True, prefixed=True),
    Route("GET", "/docs", page.serve, "getPage", open=True),
    Route("GET", "/docs/assets/{file}", page.serve_file, "getPageFile", open=True),
)


def mount(app: web.Application) -> None:
    """Add every route under its prefixes. GET brings HEAD with it, and every path has OPTIONS."""
    for prefix in PREFIXES:
        for path in dict.fromkeys(route.path for route in ROUTES):
            if routes := [route for route in ROUTES if route.path == path and prefix in route.prefixes]:
                _add(app, prefix + path, routes)


def _add(app: web.Application, path: str, routes: Sequence[Route]) -> None:
    # A name is any text: aiohttp's own pattern would leave out braces.
    resource = app.router.add_resource(path.replace("}", ":[^/]+}"))
    handlers = {route.method: route.handler for route in routes}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    handlers["OPTIONS"] = telling({*handlers, "OPTIONS"}, open=routes[0].open)
    for method, handler in handlers.items():
        resource.add_route(method, handler)
