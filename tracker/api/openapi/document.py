"""The OpenAPI 3.1 description, made from the routes and the registered types."""

from collections.abc import Iterable
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from tracker.api.links import PREFIXES
from tracker.api.openapi import dialect_texts, texts
from tracker.api.openapi.components import Text, ref
from tracker.api.openapi.responses import HEADERS, PARAMETER, error_components, responses
from tracker.api.openapi.schemas import SCHEMAS
from tracker.api.openapi.static_response import StaticResponse
from tracker.api.openapi.type_schemas import description_of, request_example, type_schemas
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from tracker.json_codec import encode

if TYPE_CHECKING:
    from tracker.api.guard import Route

DESCRIPTION: Final = web.AppKey("description", StaticResponse)

TEXTS: Final = {**texts.TEXTS, **dialect_texts.TEXTS}
"""What is said about each route, by its name."""

INFO: Final = {
    "title": "Operation tracker",
    "version": "1",
    "description": (
        "Long-running operations, shaped like Microsoft Graph's commsOperation.\n\n"
        "`HEAD` works wherever `GET` does. Another method at a path is 405, with `Allow`; another path is 404. Every"
        " failure has Graph's error body, unless it says otherwise."
    ),
    "license": {"name": "MIT", "identifier": "MIT"},
}
BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token, which belongs to a tenant: other tenants' operations do not exist for you.",
}
BODY: Final = (
    "One JSON object in UTF-8, at most 1 MiB, also after decompression of `Content-Encoding: gzip` or `deflate`."
)

_GROUPS: Final = {"communications": "operations", "operations": "monitor"}
"""The group of a path by its first segment; any other segment has its own, and what is open is the service itself."""


def describe(
    routes: Iterable["Route"], registry: TypeRegistry, *, accept_unknown: bool = False, public_url: str = ""
) -> Json:
    """Describe an API that has these routes and types. `accept_unknown`: types beside these can be created too."""
    routes = tuple(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        path = paths.setdefault(route.path, {"parameters": _path_parameters(route.path)})
        path[route.method.lower()] = _operation(route, routes, registry)
        if route.prefixes != PREFIXES:
            path["servers"] = _servers(public_url, route.prefixes)
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": _servers(public_url, PREFIXES),
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": BEARER},
            "headers": dict(HEADERS),
            "responses": error_components(),
            "schemas": {
                **SCHEMAS,
                **dialect_texts.SCHEMAS,
                **type_schemas(registry, accept_unknown=accept_unknown),
            },
        },
    }


async def serve(request: web.Request) -> web.Response:
    """Describe the API in OpenAPI 3.1, with every registered operation type."""
    return request.app[DESCRIPTION].answer(request)


def written(routes: Iterable["Route"], registry: TypeRegistry, settings: Settings) -> StaticResponse:
    """The description as it is served."""
    accept_unknown = settings.unknown_types == "accept"
    described = describe(routes, registry, accept_unknown=accept_unknown, public_url=settings.public_url)
    return StaticResponse(encode(described), "application/json")


def _servers(public_url: str, prefixes: Iterable[str]) -> list[Json]:
    """Without a public address the host is the one that the description is read from."""
    return [{"url": f"{public_url}{prefix}" or "/"} for prefix in prefixes]


def _operation(route: "Route", routes: Iterable["Route"], registry: TypeRegistry) -> Json:
    text = TEXTS[route.name]
    operation: Json = {
        "operationId": route.name,
        "summary": text.summary,
        "description": cleandoc(route.handler.__doc__ or ""),
        "tags": [_group(route)],
    }
    parameters = [*texts.COMMON_HEADERS, *text.parameters] if not route.open else list(text.parameters)
    if parameters:
        operation["parameters"] = parameters
    if route.open:
        operation["security"] = []
    if text.body is not None:
        operation["requestBody"] = _body(text, registry)
    operation["responses"] = responses(route, text, routes)
    return operation


def _group(route: "Route") -> str:
    if route.open:
        return "service"
    first = route.path.split("/")[1]
    return _GROUPS.get(first, first.strip("$"))


def _body(text: Text, registry: TypeRegistry) -> Json:
    media: dict[str, Any] = {"schema": text.body}
    if text.body == ref("newOperation"):
        media["examples"] = {
            entry.name.removeprefix("#"): {"description": description_of(entry), "value": example}
            for entry in registry.values()
            if (example := request_example(entry)) is not None
        }
    return {
        "description": BODY,
        "required": text.body_required,
        "content": {"application/json": media},
    }


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, **_declared(texts.PATH_PARAMETERS[name])}
        for name in PARAMETER.findall(path)
    ]


def _declared(schema: Json) -> Json:
    """A parameter says itself what it is for."""
    rest = {name: value for name, value in schema.items() if name not in {"description", "examples"}}
    said: Json = {"description": schema["description"]} if "description" in schema else {}
    if "examples" in schema:
        said["example"] = schema["examples"][0]
    return {**said, "schema": rest}
