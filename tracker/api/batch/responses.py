"""The response body of a batch: one element of `responses` for each request."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson
from aiohttp import web

from tracker.domain.operation import Json

_OF_MESSAGE: Final = frozenset({"server", "date", "connection", "content-length", "transfer-encoding"})
"""Headers that describe an HTTP message. Elements leave them out, because an element is no HTTP message."""


def encode_responses(elements: Iterable[Json]) -> bytes:
    """The body with these elements, which are in the order of their requests."""
    return orjson.dumps({"responses": [*elements]})


def element(request_id: str, status: int, headers: Mapping[str, str], body: bytes) -> Json:
    """The element of a response whose headers are in lower case, and whose body is encoded JSON."""
    return {"id": request_id, "status": status, "headers": headers, "body": orjson.Fragment(body)}


def element_of(request_id: str, response: web.Response) -> Json:
    """The element of a response that the routes have made."""
    body = _body(response.content_type, cast("bytes | None", response.body))
    return {"id": request_id, "status": response.status, "headers": element_headers(response.headers), "body": body}


def element_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an element, by name in lower case. Several lines of a header are joined."""
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
