"""Checks of promises that hold for every answer and that the OpenAPI description does not contain.

schemathesis runs them together with its own checks.
"""

import json
from http import HTTPStatus
from typing import Any
from uuid import UUID

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

ERRORS = HTTPStatus.BAD_REQUEST
DELIBERATE = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE}
ASK_AGAIN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@schemathesis.check
def carries_the_headers_of_every_answer(_: CheckContext, response: Response, __: Case) -> None:
    """`request-id` is a GUID, `OData-Version` and `Date` are present, and `client-request-id` is the request's."""
    UUID(_one(response, "request-id"))
    assert _one(response, "odata-version") in {"4.0", "4.01"}
    assert _one(response, "date").endswith("GMT")
    if "client-request-id" in response.headers:
        assert _one(response, "client-request-id") == response.request.headers.get("client-request-id")


@schemathesis.check
def an_error_has_graphs_body(_: CheckContext, response: Response, case: Case) -> None:
    """The error code is the reason phrase of the status in camel case. `innerError` repeats the ids of the headers."""
    if response.status_code < ERRORS or response.request.method == "HEAD" or not _speaks_graph(case):
        return
    error: Any = json.loads(response.content)["error"]
    assert error["code"] == _word(response.status_code), error
    assert error["message"], error
    inner = error["innerError"]
    assert inner["request-id"] == _one(response, "request-id"), error
    assert inner["date"].endswith("Z"), error


@schemathesis.check
def an_error_says_what_to_do(_: CheckContext, response: Response, __: Case) -> None:
    """401 asks for a bearer token, 405 lists the allowed methods, and 429 and 503 have Retry-After in whole seconds."""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        assert _one(response, "www-authenticate") == "Bearer"
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        assert "GET" in _one(response, "allow") or "POST" in _one(response, "allow")
    if response.status_code in ASK_AGAIN:
        assert int(_one(response, "retry-after")) >= 1


@schemathesis.check
def no_part_of_a_batch_fails_by_our_fault(_: CheckContext, response: Response, case: Case) -> None:
    """A part of a batch has no status of 500 or above except 501 and 503, as an answer outside a batch."""
    if case.path == "/$batch" and response.status_code == HTTPStatus.OK:
        for part in json.loads(response.content)["responses"]:
            assert part["status"] < HTTPStatus.INTERNAL_SERVER_ERROR or part["status"] in DELIBERATE, part


@schemathesis.check
def links_are_absolute(_: CheckContext, response: Response, __: Case) -> None:
    """`Location` and `Operation-Location` begin with the address of the tracker."""
    for name in ("location", "operation-location"):
        for link in response.headers.get(name, []):
            assert link.startswith("http://127.0.0.1:"), f"{name}: {link}"


def _one(response: Response, name: str) -> str:
    values = response.headers.get(name, [])
    assert len(values) == 1, f"{name} is there {len(values)} times"
    return str(values[0])


def _speaks_graph(case: Case) -> bool:
    return not case.path.startswith(("/google/", "/ogc/"))


def _word(status: int) -> str:
    first, *rest = HTTPStatus(status).phrase.replace("-", " ").split()
    return "".join([first.lower(), *(word.capitalize() for word in rest)])
