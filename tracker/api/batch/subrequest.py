"""Subrequests of a JSON batch, as the request heads and bodies that aiohttp's parser makes for a connection."""

import asyncio
import re
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tracker.api import forwarded
from tracker.api.batch.batch_body import BatchRequest
from tracker.api.guard import PUBLIC_URL
from tracker.api.lengths import (
    FIELD_TOO_LONG,
    LONGEST_FIELD,
    LONGEST_TARGET,
    MOST_FIELDS,
    TARGET_TOO_LONG,
    TOO_MANY_FIELDS,
)
from tracker.api.links import PREFIXES
from tracker.api.prefer import MAX_WAIT
from tracker.api.request_bodies import ParsedBody
from tracker.errors import HeaderFieldsTooLarge, Invalid, UriTooLong

METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})
"""The methods of OData's JSON batch (JSON Format 4.01, 19.1)."""
_BODY_UNREAD: Final = frozenset({"GET", "DELETE"})
"""Methods whose handlers read no body."""
_INHERITED: Final = ("OData-MaxVersion", "OData-Version", "client-request-id")
"""Headers of the batch that each subrequest has, too, unless it has its own."""
_ORIGIN: Final = frozenset(
    name.lower() for name in (hdrs.AUTHORIZATION, hdrs.HOST, hdrs.X_FORWARDED_FOR, *forwarded.HEADERS)
)
"""Headers of the batch that say who sent it and where it arrived. A subrequest cannot have its own."""
_IGNORED: Final = _ORIGIN | {
    name.lower()
    for name in (
        hdrs.CONNECTION,
        hdrs.CONTENT_ENCODING,
        hdrs.CONTENT_LENGTH,
        hdrs.EXPECT,
        hdrs.TE,
        hdrs.TRANSFER_ENCODING,
    )
}
"""Headers of a subrequest that have no meaning in a batch."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VISIBLE: Final = re.compile(r"[!-~]*")
_ALL_VISIBLE: Final = bytes(range(0x21, 0x7F)).decode()
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WAIT: Final = re.compile(r'(?<![\w-])wait\s*=\s*"?(\d{1,9})"?', re.ASCII | re.IGNORECASE)


class SubrequestReader:
    """Turns the requests of one batch into aiohttp's heads and bodies."""

    def __init__(self, batch: web.Request) -> None:
        self._batch = batch
        self._prefix = next(prefix for prefix in reversed(PREFIXES) if batch.path.startswith(f"{prefix}/"))
        self._deadline = asyncio.get_running_loop().time() + MAX_WAIT
        self._origin = CIMultiDict((name, value) for name, value in batch.headers.items() if name.lower() in _ORIGIN)
        self._inherited = [(name, batch.headers[name]) for name in _INHERITED if name in batch.headers]

    def read(self, request: BatchRequest) -> tuple[RawRequestMessage, StreamReader]:
        """The head and the body of a subrequest.

        Raises Invalid, UriTooLong or HeaderFieldsTooLarge when the subrequest cannot be served.
        """
        _check_lengths(request)
        if request.unsupported is not None:
            raise Invalid(f"{request.unsupported}: is not supported; nothing was done", target=request.unsupported)
        if request.method not in METHODS:
            raise Invalid("method: must be GET, POST, PATCH, PUT or DELETE", target="method")
        headers = self._headers(request)
        path = self._path(request.url)
        if request.body is not None:
            headers.setdefault(hdrs.CONTENT_TYPE, "application/json")
        try:
            message = _message(request.method, path, URL(path, encoded=True), headers)
        except ValueError:
            raise Invalid("url: is malformed", target="url") from None
        has_body = request.body is not None and request.method not in _BODY_UNREAD
        return message, ParsedBody(request.body) if has_body else EMPTY_PAYLOAD

    def head_of_refused(self, request: BatchRequest) -> RawRequestMessage:
        """A head to refuse a subrequest with, because the subrequest's own head may not be valid."""
        headers = self._origin.copy()
        headers.extend(self._inherited)
        return _message(request.method, "/", URL("/"), headers)

    def _headers(self, request: BatchRequest) -> CIMultiDict[str]:
        headers = self._origin.copy()
        for name, value in (request.headers or {}).items():
            if not _NAME.fullmatch(name) or _CONTROL.search(value):
                raise Invalid("headers: a name or a value that HTTP does not allow", target="headers")
            if name.lower() not in _IGNORED:
                headers.add(name, value)
        for name, value in self._inherited:
            headers.setdefault(name, value)
        if request.depends_on and "Prefer" in headers:
            self._bound_wait(headers)
        return headers

    def _bound_wait(self, headers: CIMultiDict[str]) -> None:
        """Shorten the preference `wait`, so that dependent subrequests wait no longer together than one request may."""
        left = max(0, int(self._deadline - asyncio.get_running_loop().time()))
        lines = [_WAIT.sub(lambda match: f"wait={min(int(match[1]), left)}", line) for line in headers.popall("Prefer")]
        headers.extend(("Prefer", line) for line in lines)

    def _path(self, url: str) -> str:
        """Path and query at this server, from a URL that is absolute or relative to the service root.

        Graph's clients send `/communications/…`, `communications/…` and, if they keep the version,
        `/v1.0/communications/…`. Characters that a client would have to percent-encode are encoded here.
        """
        if _ABSOLUTE.match(url):
            found = self._batch.app[PUBLIC_URL].path_of(self._batch, url)
            if found is None:
                raise Invalid("url: is another server's", target="url")
            url = found
        url = "/" + url.partition("#")[0].lstrip("/")
        if not any(url.startswith(f"{prefix}/") for prefix in PREFIXES if prefix):
            url = self._prefix + url
        return url if _VISIBLE.fullmatch(url) else quote(url, safe=_ALL_VISIBLE)


def _check_lengths(request: BatchRequest) -> None:
    """Check the lengths as they are checked outside a batch. Letters outside ASCII count as one, as they were sent."""
    if len(request.url) > LONGEST_TARGET:
        raise UriTooLong(TARGET_TOO_LONG, target="url")
    headers = request.headers or {}
    if len(headers) > MOST_FIELDS:
        raise HeaderFieldsTooLarge(TOO_MANY_FIELDS, target="headers")
    if any(len(name) + len(value) > LONGEST_FIELD for name, value in headers.items()):
        raise HeaderFieldsTooLarge(FIELD_TOO_LONG, target="headers")


def _message(method: str, path: str, url: URL, headers: CIMultiDict[str]) -> RawRequestMessage:
    return RawRequestMessage(
        method=method,
        path=path,
        version=HttpVersion11,
        headers=CIMultiDictProxy(headers),
        raw_headers=(),
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=url,
    )
