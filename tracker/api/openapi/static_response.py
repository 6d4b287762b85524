"""HTTP responses that stay the same until the process ends: descriptions of the API, pages and their files."""

from hashlib import sha256
from http import HTTPStatus

from aiohttp import web

from tracker.api.headers import joined


class StaticResponse:
    """A response body, with an ETag made from its bytes.

    Clients may keep the body. They revalidate it before each use (`Cache-Control: no-cache`).
    """

    __slots__ = ("_body", "_cache_headers", "_etag", "_headers")

    def __init__(self, body: bytes, content_type: str, **headers: str) -> None:
        self._etag = f'"{sha256(body).hexdigest()[:16]}"'
        self._body = body
        self._cache_headers = {"Cache-Control": "no-cache", "ETag": self._etag}
        self._headers = {"Content-Type": content_type, **self._cache_headers, **headers}

    def response_to(self, request: web.Request) -> web.Response:
        """The body, or 304 when `If-None-Match` names its ETag."""
        # aiohttp's `request.if_none_match` takes the first header line only; RFC 9110, 5.3 allows several.
        known = joined(request.headers, "If-None-Match").split(",")
        if any(etag.strip().removeprefix("W/") in {self._etag, "*"} for etag in known):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self._cache_headers)
        return web.Response(body=self._body, headers=self._headers)
