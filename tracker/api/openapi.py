"""The OpenAPI 3.1 description, made from the routes and the registered types."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tracker.api import dialect_texts
from tracker.api import openapi_texts as texts
from tracker.api.links import PREFIXES
from tracker.api.wire import encode
from tracker.model import Json
from tracker.types import Catalogue, OperationType

if TYPE_CHECKING:
    from tracker.api.admission import Route

DESCRIPTION: Final = web.AppKey("description", bytes)

TEXTS: Final = {**texts.TEXTS, **dialect_texts.TEXTS}
"""What is said about each route, by its name."""

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")


def describe(routes: Iterable["Route"], catalogue: Catalogue) -> Json:
    """Describe an API that has these routes and types."""
    paths: dict[str, Json] = {}
    for route in routes:
        path = paths.setdefault(route.path, {"parameters": _path_parameters(route.path)})
        path[route.method.lower()] = _operation(route)
        if route.prefixes != PREFIXES:
            path["servers"] = [{"url": prefix or "/"} for prefix in route.prefixes]
    return {
        "openapi": "3.1.0",
        "info": texts.INFO,
        "servers": [{"url": prefix or "/"} for prefix in PREFIXES],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {**texts.SCHEMAS, **dialect_texts.SCHEMAS, **_type_schemas(catalogue)},
        },
    }


async def serve(request: web.Request) -> web.Response:
    """Answer the description."""
    return web.Response(body=request.app[DESCRIPTION], content_type="application/json")


def written(routes: Iterable["Route"], catalogue: Catalogue) -> bytes:
    """The description as it is served."""
    return encode(describe(routes, catalogue))


def _operation(route: "Route") -> Json:
    text = TEXTS[route.name]
    operation: Json = {"operationId": route.name, "summary": text.summary}
    parameters = [*texts.COMMON_HEADERS, *text.parameters] if not route.open else list(text.parameters)
    if parameters:
        operation["parameters"] = parameters
    if route.open:
        operation["security"] = []
    if text.body is not None:
        content = {"application/json": {"schema": text.body}}
        operation["requestBody"] = {"required": text.body_required, "content": content}
    operation["responses"] = {
        **{str(status): _answer(status, schema) for status, schema in text.answers.items()},
        "default": _answer(None, text.error or texts.ref("error"), text.error_type),
    }
    return operation


def _answer(status: HTTPStatus | None, schema: Json | None, media_type: str = "application/json") -> Json:
    answer: Json = {"description": "An error" if status is None else status.phrase}
    if schema is not None:
        answer["content"] = {media_type: {"schema": schema}}
    return answer


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": texts.PATH_PARAMETERS[name]}
        for name in _PARAMETER.findall(path)
    ]


def _type_schemas(catalogue: Catalogue) -> dict[str, Json]:
    """One schema per type and one for any of them. A type's own definitions are named after it."""
    schemas: dict[str, Json] = {}
    mapping: dict[str, str] = {}
    for entry in catalogue.values():
        name = _NOT_IN_A_NAME.sub("_", entry.name.removeprefix("#"))
        mapping[entry.name] = f"{texts.SCHEMA_ROOT}{name}"
        schemas.update(_schemas_of(entry, name))
    schemas["operation"] = {
        "anyOf": [{"$ref": target} for target in mapping.values()],
        "discriminator": {"propertyName": "@odata.type", "mapping": mapping},
    }
    return schemas


def _schemas_of(entry: OperationType, name: str) -> dict[str, Json]:
    own = entry.model.model_json_schema(ref_template=f"{texts.SCHEMA_ROOT}{name}.{{model}}")
    inner: dict[str, Json] = own.pop("$defs", {})
    kind = {"@odata.type": {"type": "string", "examples": [entry.name]}}
    own["properties"] = {**kind, **texts.WAITS, **own.get("properties", {})}
    own["allOf"] = [texts.ref("anyOperation")]
    return {name: own, **{f"{name}.{model}": schema for model, schema in inner.items()}}
