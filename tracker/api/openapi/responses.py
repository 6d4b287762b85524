"""Responses of a route in the OpenAPI description: headers, failures and links that follow from the route."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tracker.api.connection_limits import PROBES
from tracker.api.openapi.examples import error_example, example_of
from tracker.api.openapi.texts import ERRORS, SCHEMA_ROOT, RouteText, ref
from tracker.api.site_guard import SAFE_METHODS
from tracker.domain.operation import Json
from tracker.errors import status_word

if TYPE_CHECKING:
    from tracker.api.guard import Route

COMMON: Final = ("request-id", "client-request-id", "OData-Version", "Date")
"""Names of the headers that every response has."""
PARAMETER: Final = re.compile(r"\{(\w+)\}")
"""A parameter in a path."""

_FIRST_ERROR: Final = HTTPStatus.BAD_REQUEST
_LINK_PARAMETERS: Final = {"call_id": "$request.path.call_id", "operation_id": "$response.body#/id"}
"""Where a client finds the parameters of a linked path (OpenAPI 3.1, 4.8.20.4: runtime expressions)."""


def responses(route: "Route", text: RouteText, routes: Iterable["Route"]) -> Json:
    """All responses of a route, by status."""
    successes = {status: schema for status, schema in text.responses.items() if status < _FIRST_ERROR}
    described = {str(int(status)): _success(route, text, status, schema) for status, schema in successes.items()}
    if _creates(route, text):
        links = _links(routes)
        for status, schema in successes.items():
            if _is_operation(schema):
                described[str(int(status))]["links"] = links
    own_failures = {status: schema for status, schema in text.responses.items() if status >= _FIRST_ERROR}
    for status in sorted({*own_failures, *text.errors, *_failures(route, text)}):
        schema = own_failures.get(status) or text.error
        if schema is None or schema == ref("error"):
            described[str(int(status))] = {"$ref": f"#/components/responses/{status_word(status)}"}
        else:
            described[str(int(status))] = _failure(status, schema, text.error_media_type)
    return described


def error_components() -> dict[str, Json]:
    """The failures with Graph's error body that routes share, by Graph's code for the status."""
    return {status_word(status): _failure(status, ref("error")) for status in sorted(ERRORS)}


def _success(route: "Route", text: RouteText, status: HTTPStatus, schema: Json | None) -> Json:
    response: Json = {"description": status.phrase, "headers": _headers(_success_headers(route, text, status, schema))}
    if schema is not None:
        media: Json = {"schema": schema}
        example = example_of(schema, status)
        if example is not None:
            media["examples"] = {"example": {"value": example}}
        response["content"] = {text.media_type: media}
    return response


def _success_headers(route: "Route", text: RouteText, status: HTTPStatus, schema: Json | None) -> Iterable[str]:
    yield from COMMON
    if any(map(_is_operation, text.responses.values())):
        yield from ("ETag", "Retry-After", "Vary")
    if schema == ref("monitor"):
        yield "Retry-After"
    if _creates(route, text):
        yield from ("Location", "Operation-Location")
        if status in {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT}:
            yield "OData-EntityId"
    parameters = {parameter["name"] for parameter in text.parameters}
    if "Prefer" in parameters:
        yield "Preference-Applied"
    if "Repeatability-Request-ID" in parameters:
        yield "Repeatability-Result"
    yield from text.headers.get(status, ())


def _creates(route: "Route", text: RouteText) -> bool:
    """Whether the route creates an operation."""
    is_new = route.method == "POST" and "{operation_id}" not in route.path
    return is_new and any(map(_is_operation, text.responses.values()))


def _is_operation(schema: Json | None) -> bool:
    """Whether the body is an operation of any type, or of one type. Only the names of types have a dot."""
    name = (schema or {}).get("$ref", "").removeprefix(SCHEMA_ROOT)
    return name == "operation" or "." in name


def _failure(status: HTTPStatus, schema: Json | None, media_type: str = "application/json") -> Json:
    error = ERRORS.get(status, {})
    description = error.get("description", status.phrase)
    media: Json = {"schema": schema}
    if schema == ref("error"):
        media["examples"] = {"example": {"value": error_example(status, description)}}
    return {
        "description": description,
        "headers": _headers([*COMMON, *error.get("headers", ())]),
        "content": {media_type: media},
    }


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}


def _failures(route: "Route", text: RouteText) -> Iterable[HTTPStatus]:
    """Statuses of the failures that follow from the route's path, body and parameters."""
    yield from _failures_before_handler(route)
    if "{operation_id}" in route.path:
        yield HTTPStatus.NOT_FOUND
        if route.dialect != "google":  # `google.rpc.Code` has no counterpart of 410
            yield HTTPStatus.GONE
    if "{process_id}" in route.path or "{action}" in route.path:
        yield HTTPStatus.NOT_FOUND
    if text.body is not None:
        yield from (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    if _creates(route, text):
        # 410: the request is sent again after the operation that it created was deleted.
        yield from (HTTPStatus.CONFLICT, HTTPStatus.GONE)
    if {"If-Match", "Repeatability-First-Sent"} & {parameter["name"] for parameter in text.parameters}:
        yield HTTPStatus.PRECONDITION_FAILED


def _failures_before_handler(route: "Route") -> Iterable[HTTPStatus]:
    """Statuses of the failures of the checks that come before a handler."""
    yield from (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.EXPECTATION_FAILED, HTTPStatus.INTERNAL_SERVER_ERROR)
    yield HTTPStatus.SERVICE_UNAVAILABLE
    if route.path not in PROBES:
        yield HTTPStatus.BAD_REQUEST
    if route.open:
        return
    yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_ACCEPTABLE)
    yield from (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.NOT_IMPLEMENTED)
    if route.method not in SAFE_METHODS:
        yield HTTPStatus.FORBIDDEN
    if not route.dialect:  # the parser of requests does not know dialects
        yield from (HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _links(routes: Iterable["Route"]) -> Json:
    """Links from the response that has a new operation to every route that takes an operation's id."""
    links: Json = {}
    for other in routes:
        names = set(PARAMETER.findall(other.path))
        if "operation_id" in names and names <= _LINK_PARAMETERS.keys():
            links[other.name] = {
                "operationId": other.name,
                "parameters": {name: value for name, value in _LINK_PARAMETERS.items() if name in names},
            }
    return links
