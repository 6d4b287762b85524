"""What the description says of every answer because of what its route is: headers, errors, links."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tracker.api.openapi.components import SCHEMA_ROOT, Text, ref
from tracker.api.openapi.examples import ERROR_IDS, error_example, example_of
from tracker.domain.operation import Json
from tracker.errors import status_word

if TYPE_CHECKING:
    from tracker.api.guard import Route

_TEXT: Final = {"type": "string"}
_ADDRESS: Final = {"type": "string", "format": "uri"}


def _header(description: str, example: object, schema: Json = _TEXT, *, required: bool = False) -> Json:
    return {"description": description, "required": required, "schema": schema, "example": example}


_SECONDS: Final = {"type": "integer", "minimum": 1}
_PLACE: Final = "https://example.org/communications/calls/57dab8b1/operations/8c2ea0d5-6d8a-4c53-9d2c-6a3a6ab3d3c5"

HEADERS: Final[Mapping[str, Json]] = {
    "request-id": _header(
        "Names the request; give it in reports.",
        ERROR_IDS["request-id"],
        {"type": "string", "format": "uuid"},
        required=True,
    ),
    "client-request-id": _header("Your own name for the request, if you sent one.", ERROR_IDS["client-request-id"]),
    "OData-Version": _header(
        "4.01 if OData-MaxVersion asked for it.", "4.0", {"type": "string", "enum": ["4.0", "4.01"]}, required=True
    ),
    "Date": _header("When the answer was made.", "Sat, 31 Jan 2026 12:00:00 GMT", required=True),
    "ETag": _header("The revision, for If-Match and If-None-Match.", 'W/"1"', required=True),
    "Retry-After": _header("Whole seconds until it is worth asking again; absent for what has ended.", 1, _SECONDS),
    "Location": _header("The operation.", _PLACE, _ADDRESS, required=True),
    "Operation-Location": _header("Its status monitor.", "https://example.org/operations/8c2ea0d5", _ADDRESS),
    "OData-EntityId": _header("The operation, in an answer without a body.", _PLACE, _ADDRESS),
    "Preference-Applied": _header("The preferences that were honoured.", "wait=30"),
    "Vary": _header("The request's headers that the answer depends on.", "Prefer"),
    "WWW-Authenticate": _header("How to authenticate.", "Bearer", required=True),
    "Allow": _header("The methods of this path.", "GET, HEAD, POST", required=True),
    "Cache-Control": _header("How long the answer may be kept.", "no-cache"),
    "Content-Security-Policy": _header("What the page may load.", "default-src 'none'"),
    "Repeatability-Result": _header("Whether a Repeatability-Request-ID was accepted.", "accepted"),
}
"""Every header of an answer, by name."""

COMMON: Final = ("request-id", "client-request-id", "OData-Version", "Date")
"""Those of every answer."""

ERRORS: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.BAD_REQUEST: "The request is malformed; `details` names every wrong member.",
    HTTPStatus.UNAUTHORIZED: "No token, or an unknown one.",
    HTTPStatus.NOT_FOUND: "Nothing of that name in your tenant.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The path has other methods; `Allow` names them.",
    HTTPStatus.NOT_ACCEPTABLE: "The `Accept` header excludes the type of the answer.",
    HTTPStatus.CONFLICT: "The id or the idempotency key is taken.",
    HTTPStatus.GONE: "The operation was deleted, or its retention has ended.",
    HTTPStatus.PRECONDITION_FAILED: "`If-Match` names another revision, or `Repeatability-First-Sent` is too long ago.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is over 1 MiB.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON, or in an unknown `Content-Encoding`.",
    HTTPStatus.EXPECTATION_FAILED: "An `Expect` other than `100-continue`.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect of ours; the log has the `request-id`.",
    HTTPStatus.NOT_IMPLEMENTED: "A query option that OData knows and this path does not serve.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The store is away; try again after `Retry-After` seconds.",
}
"""What is said of an error; one that is not here has HTTP's own phrase."""

_ERROR_HEADERS: Final[Mapping[HTTPStatus, tuple[str, ...]]] = {
    HTTPStatus.BAD_REQUEST: ("Repeatability-Result",),
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.METHOD_NOT_ALLOWED: ("Allow",),
    HTTPStatus.CONFLICT: ("Repeatability-Result",),
    HTTPStatus.PRECONDITION_FAILED: ("Repeatability-Result",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}
_FIRST_ERROR: Final = HTTPStatus.BAD_REQUEST
PARAMETER: Final = re.compile(r"\{(\w+)\}")
"""A parameter in a path."""
_OF_CALLS: Final = {"call_id": "$request.path.call_id"}
_OF_OPERATIONS: Final = {**_OF_CALLS, "operation_id": "$response.body#/id"}


def responses(route: "Route", text: Text, routes: Iterable["Route"]) -> Json:
    """Every answer of a route, by status."""
    successes = {status: schema for status, schema in text.answers.items() if status < _FIRST_ERROR}
    found = {str(int(status)): _success(route, text, status, schema) for status, schema in successes.items()}
    if _creates(route, text):
        links = _links(routes)
        for status, schema in successes.items():
            if _shows_an_operation(schema):
                found[str(int(status))]["links"] = links
    own = {status: schema for status, schema in text.answers.items() if status >= _FIRST_ERROR}
    for status in sorted({*own, *text.errors, *_errors(route, text)}):
        schema = own.get(status) or text.error
        plain = schema is None or schema == ref("error")
        found[str(int(status))] = (
            {"$ref": f"#/components/responses/{status_word(status)}"}
            if plain
            else _failure(status, schema, text.error_type)
        )
    return found


def error_components() -> dict[str, Json]:
    """The answers that all routes fail with, by Graph's word for them."""
    errors = {*ERRORS, *_ERROR_HEADERS, HTTPStatus.PRECONDITION_REQUIRED, HTTPStatus.FAILED_DEPENDENCY}
    return {status_word(status): _failure(status, ref("error")) for status in sorted(errors)}


def _success(route: "Route", text: Text, status: HTTPStatus, schema: Json | None) -> Json:
    answer: Json = {"description": status.phrase, "headers": _headers(_success_headers(route, text, status, schema))}
    if schema is not None:
        media: Json = {"schema": schema}
        example = example_of(schema, status)
        if example is not None:
            media["examples"] = {"example": {"value": example}}
        answer["content"] = {text.media_type: media}
    return answer


def _success_headers(route: "Route", text: Text, status: HTTPStatus, schema: Json | None) -> Iterable[str]:
    yield from COMMON
    if any(map(_shows_an_operation, text.answers.values())):
        yield from ("ETag", "Retry-After", "Vary")
    if schema == ref("monitor"):
        yield "Retry-After"
    if _creates(route, text):
        yield from ("Location", "Operation-Location")
        if status in {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT}:
            yield "OData-EntityId"
    asked = {parameter["name"] for parameter in text.parameters}
    if "Prefer" in asked:
        yield "Preference-Applied"
    if "Repeatability-Request-ID" in asked:
        yield "Repeatability-Result"
    yield from text.headers.get(status, ())


def _creates(route: "Route", text: Text) -> bool:
    new = route.method == "POST" and "{operation_id}" not in route.path
    return new and any(map(_shows_an_operation, text.answers.values()))


def _shows_an_operation(schema: Json | None) -> bool:
    """Whether an answer is an operation: of any type, or of one, whose name has a dot in it."""
    name = (schema or {}).get("$ref", "").removeprefix(SCHEMA_ROOT)
    return name == "operation" or "." in name


def _failure(status: HTTPStatus, schema: Json | None, media_type: str = "application/json") -> Json:
    media: Json = {"schema": schema}
    if schema == ref("error"):
        media["examples"] = {"example": {"value": error_example(status, ERRORS.get(status, status.phrase))}}
    return {
        "description": ERRORS.get(status, status.phrase),
        "headers": _headers([*COMMON, *_ERROR_HEADERS.get(status, ())]),
        "content": {media_type: media},
    }


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}


def _errors(route: "Route", text: Text) -> Iterable[HTTPStatus]:
    """What a route can fail with because of what it is."""
    yield from (HTTPStatus.EXPECTATION_FAILED, HTTPStatus.INTERNAL_SERVER_ERROR)
    if not route.open:
        yield from (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_ACCEPTABLE)
        yield from (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE)
    if "{operation_id}" in route.path:
        yield HTTPStatus.NOT_FOUND
        if route.dialect != "google":  # which has no word for it
            yield HTTPStatus.GONE
    if "{process_id}" in route.path or "{action}" in route.path:
        yield HTTPStatus.NOT_FOUND
    if text.body is not None:
        yield from (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    if _creates(route, text):
        yield from (HTTPStatus.CONFLICT, HTTPStatus.GONE)  # sent again after what it made was deleted
    if {"If-Match", "Repeatability-First-Sent"} & {parameter["name"] for parameter in text.parameters}:
        yield HTTPStatus.PRECONDITION_FAILED


def _links(routes: Iterable["Route"]) -> Json:
    """From an answer that shows a new operation to everything that can be done with it."""
    links: Json = {}
    for other in routes:
        names = set(PARAMETER.findall(other.path))
        if "operation_id" in names and names <= _OF_OPERATIONS.keys():
            links[other.name] = {
                "operationId": other.name,
                "parameters": {name: value for name, value in _OF_OPERATIONS.items() if name in names},
            }
    return links
