"""An answer that is the same for everybody until the process ends: a description of the API, or a page."""

from hashlib import sha256
from http import HTTPStatus

from aiohttp import web


class StaticResponse:
    """A body, with the ETag that follows from it: clients keep it, and ask each time whether it is still true."""

    __slots__ = ("_body", "_headers", "_kept", "_tag")

    def __init__(self, body: bytes, content_type: str, **headers: str) -> None:
        self._tag = f'"{sha256(body).hexdigest()[:16]}"'
        self._body = body
        self._kept = {"Cache-Control": "no-cache", "ETag": self._tag}
        self._headers = {"Content-Type": content_type, **self._kept, **headers}

    def answer(self, request: web.Request) -> web.Response:
        """The body, or 304 when `If-None-Match` names it."""
        known = ",".join(request.headers.getall("If-None-Match", ())).split(",")
        if any(tag.strip().removeprefix("W/") in {self._tag, "*"} for tag in known):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self._kept)
        return web.Response(body=self._body, headers=self._headers)
