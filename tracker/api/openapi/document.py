"""The OpenAPI 3.1 description, made from the routes, the registered types and the texts."""

from collections.abc import Iterable
from functools import lru_cache
from inspect import cleandoc
from typing import Any, Final

from aiohttp import web

from tracker.api.answers import send_shared
from tracker.api.guard import PUBLIC_URL, Route
from tracker.api.links import PREFIXES
from tracker.api.openapi.responses import PARAMETER, error_components, responses
from tracker.api.openapi.static_response import StaticResponse
from tracker.api.openapi.texts import (
    COMMON_PARAMETERS,
    HEADERS,
    PATH_PARAMETERS,
    ROUTE_TEXTS,
    SCHEMAS,
    SERVICE,
    RouteText,
    ref,
)
from tracker.api.openapi.type_schemas import description_of, request_example, type_schemas
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from tracker.json_codec import encode

_BASE: Final = "https://base.invalid"
"""Stands in the encoded description for the base of the servers' URLs. No name ends in `invalid` (RFC 2606)."""
_TAGS: Final = {"communications": "operations", "operations": "monitor"}
"""Tags of routes by the first segment of the path, where the tag is another word than the segment."""


def describe(
    routes: Iterable[Route], registry: TypeRegistry, *, accept_unknown: bool = False, public_url: str = ""
) -> Json:
    """The description of an API that has these routes and types.

    `accept_unknown`: whether operations of types that are not registered can be created, too.
    """
    routes = tuple(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        path = paths.setdefault(route.path, {"parameters": _path_parameters(route.path)})
        path[route.method.lower()] = _operation(route, routes, registry)
        if route.prefixes != PREFIXES:
            path["servers"] = _servers(public_url, route.prefixes)
    return {
        "openapi": "3.1.0",
        "info": SERVICE["info"],
        "servers": _servers(public_url, PREFIXES),
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": SERVICE["bearer"]},
            "headers": dict(HEADERS),
            "responses": error_components(),
            "schemas": {**SCHEMAS, **type_schemas(registry, accept_unknown=accept_unknown)},
        },
    }


class Description:
    """The response of `/openapi.json`. Only the URLs of its servers depend on the request."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._with_base = lru_cache(16)(self._response)

    def response_to(self, request: web.Request) -> web.Response:
        """The description, with the URLs by which the client of this request reaches the API."""
        return self._with_base(request.app[PUBLIC_URL].configured_base(request)).response_to(request)

    def _response(self, base: str) -> StaticResponse:
        root, placeholder = encode(base or "/"), encode(_BASE)
        body = self._encoded.replace(placeholder, root).replace(placeholder[:-1], encode(base)[:-1])
        return StaticResponse(body, "application/json")


DESCRIPTION: Final = web.AppKey("description", Description)


async def serve(request: web.Request) -> web.StreamResponse:
    """Describe the API in OpenAPI 3.1, with every registered operation type."""
    return await send_shared(request, request.app[DESCRIPTION].response_to(request))


def description_response(routes: Iterable[Route], registry: TypeRegistry, settings: Settings) -> Description:
    """The response of `/openapi.json`."""
    accept_unknown = settings.unknown_types == "accept"
    return Description(encode(describe(routes, registry, accept_unknown=accept_unknown, public_url=_BASE)))


def _servers(public_url: str, prefixes: Iterable[str]) -> list[Json]:
    """Server objects. Without a base, their URLs are relative to the URL of the description itself."""
    return [{"url": f"{public_url}{prefix}" or "/"} for prefix in prefixes]


def _operation(route: Route, routes: Iterable[Route], registry: TypeRegistry) -> Json:
    """OpenAPI's operation object: one method of one path."""
    text = ROUTE_TEXTS[route.name]
    operation: Json = {
        "operationId": route.name,
        "summary": text.summary,
        "description": cleandoc(route.handler.__doc__ or ""),
        "tags": [_tag(route)],
    }
    parameters = list(text.parameters) if route.open else [*COMMON_PARAMETERS, *text.parameters]
    if parameters:
        operation["parameters"] = parameters
    if route.open:
        operation["security"] = []
    if text.body is not None:
        operation["requestBody"] = _request_body(text, registry)
    operation["responses"] = responses(route, text, routes)
    return operation


def _tag(route: Route) -> str:
    if route.open:
        return "service"
    segment = route.path.split("/")[1]
    return _TAGS.get(segment, segment.strip("$"))


def _request_body(text: RouteText, registry: TypeRegistry) -> Json:
    media: dict[str, Any] = {"schema": text.body}
    if text.body == ref("newOperation"):
        media["examples"] = {
            entry.name.removeprefix("#"): {"description": description_of(entry), "value": example}
            for entry in registry.values()
            if (example := request_example(entry)) is not None
        }
    return {
        "description": SERVICE["request_body"],
        "required": text.body_required,
        "content": {"application/json": media},
    }


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, **_as_parameter(PATH_PARAMETERS[name])}
        for name in PARAMETER.findall(path)
    ]


def _as_parameter(schema: Json) -> Json:
    """A parameter object of the schema. Description and example move from the schema to the parameter."""
    parameter: Json = {"description": schema["description"]} if "description" in schema else {}
    if "examples" in schema:
        parameter["example"] = schema["examples"][0]
    rest = {name: value for name, value in schema.items() if name not in {"description", "examples"}}
    return {**parameter, "schema": rest}
