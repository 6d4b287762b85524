"""An answer as an element of a batch's `responses`."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final, cast

from aiohttp import web

from tracker.json_codec import encode

_OF_MESSAGE: Final = frozenset({"server", "date", "connection", "content-length", "transfer-encoding"})
"""Headers of an answer that speak of the message which carries it."""


def written(part_id: str, answer: web.Response) -> bytes:
    """The element. A body that is JSON already is put in as it is."""
    body = cast("bytes | None", answer.body)
    return element(part_id, answer.status, headers_of(answer), _body(answer.content_type, body) if body else b"null")


def headers_of(answer: web.Response) -> dict[str, str]:
    """Those that an element has, by name in lower case."""
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        if lower not in _OF_MESSAGE:
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def element(part_id: str, status: int, headers: Mapping[str, str], body: bytes, *, common: bytes = b"}") -> bytes:
    """The element, of headers whose names are in lower case and a body in JSON.

    `common` are more, as `in_common` has them; then there is one here at least, and none of the same name.
    """
    return encode({"id": part_id, "status": status, "headers": headers})[:-2] + common + b',"body":' + body + b"}"


def in_common(headers: Mapping[str, str]) -> bytes:
    """Headers, of names in lower case, that many elements have besides some of their own, written once for all."""
    return b"," + encode(headers)[1:]


def _body(content_type: str, body: bytes) -> bytes:
    """JSON as it is, anything else in base64.

    OData has a string for text, and base64url without padding for the rest (JSON Format 4.01, 19.1); but Graph's
    clients take every body that is a string for base64 as of RFC 4648, 4, and fail on the whole batch if it is none.
    """
    return body if content_type == "application/json" else b'"' + b64encode(body) + b'"'
