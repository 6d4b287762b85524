"""The response body of a batch: one element of `responses` for each request."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson
from aiohttp import web

from tracker.domain.operation import Json

_OF_MESSAGE: Final = frozenset({"server", "date", "connection", "content-length", "transfer-encoding"})
"""Headers of an answer that describe the message which carries it. An element has none of them."""


def encode_responses(elements: Iterable[Json]) -> bytes:
    """The body, of elements in the order of their requests."""
    return orjson.dumps({"responses": [*elements]})


def element(request_id: str, status: int, headers: Mapping[str, str], body: bytes) -> Json:
    """The element of an answer whose headers are in lower case, and whose body is JSON that is encoded already."""
    return {"id": request_id, "status": status, "headers": headers, "body": orjson.Fragment(body)}


def element_of(request_id: str, answer: web.Response) -> Json:
    """The element of any answer that is whole."""
    body = cast("bytes | None", answer.body)
    headers = element_headers(answer.headers)
    return {"id": request_id, "status": answer.status, "headers": headers, "body": _body(answer.content_type, body)}


def element_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an element, by name in lower case; lines of one name are joined."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower not in _OF_MESSAGE:
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found


def _body(content_type: str, body: bytes | None) -> Any:
    """JSON as it is, anything else in base64; null for no body.

    OData has a string for text, and base64url without padding for other bodies (JSON Format 4.01, 19.1). But Graph's
    clients take every body that is a string for base64 (RFC 4648, 4), and fail on the whole batch if it is none.
    """
    if not body:
        return None
    return orjson.Fragment(body) if content_type == "application/json" else b64encode(body).decode()
