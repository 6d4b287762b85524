"""A request of a batch as the server would have read it from a connection."""

import asyncio
import re
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tracker.api.batch.batch_body import BatchRequest
from tracker.api.guard import ADDRESSES
from tracker.api.links import PREFIXES
from tracker.api.prefer import MAX_WAIT
from tracker.api.request_bodies import ParsedBody
from tracker.errors import Invalid

METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})
"""What OData's JSON batch has (JSON Format 4.01, 19.1)."""
_INHERITED: Final = ("OData-MaxVersion", "OData-Version", "client-request-id")
"""Headers of the batch that count for each request which has none of its own."""
_OF_BATCH: Final = frozenset(
    name.lower()
    for name in (hdrs.AUTHORIZATION, hdrs.HOST, hdrs.FORWARDED, hdrs.X_FORWARDED_HOST, hdrs.X_FORWARDED_PROTO)
)
"""Headers of the batch that say who sent it and where it arrived; a request has no others."""
_NOT_ITS_OWN: Final = _OF_BATCH | {
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
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VISIBLE: Final = re.compile(r"[!-~]*")
_ALL_VISIBLE: Final = bytes(range(0x21, 0x7F)).decode()
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WAIT: Final = re.compile(r'(?<![\w-])wait\s*=\s*"?(\d{1,9})"?', re.ASCII | re.IGNORECASE)

Read = tuple[RawRequestMessage, StreamReader]


class Parts:
    """Reads the requests of one batch."""

    def __init__(self, batch: web.Request) -> None:
        self._batch = batch
        self._prefix = next(prefix for prefix in reversed(PREFIXES) if batch.path.startswith(f"{prefix}/"))
        self._ends = asyncio.get_running_loop().time() + MAX_WAIT
        self._always = CIMultiDict((name, value) for name, value in batch.headers.items() if name.lower() in _OF_BATCH)
        self._messages: dict[tuple[object, ...], RawRequestMessage] = {}
        """Those that may come again: most batches ask twenty times the same of one address."""
        self._otherwise = [(name, batch.headers[name]) for name in _INHERITED if name in batch.headers]

    def read(self, part: BatchRequest) -> Read:
        """The request, ready to be answered. Raises Invalid."""
        if part.unsupported is not None:
            raise Invalid(f"{part.unsupported}: is not supported; nothing was done", target=part.unsupported)
        if part.method not in METHODS:
            raise Invalid("method: must be GET, POST, PATCH, PUT or DELETE", target="method")
        has_body = part.body is not None
        alike = (part.method, part.url, has_body, *(part.headers or {}).items())
        message = None if part.depends_on else self._messages.get(alike)
        if message is None:
            message = self._message(part, has_body=has_body)
            if not part.depends_on:
                self._messages[alike] = message
        return message, ParsedBody(part.body) if has_body else EMPTY_PAYLOAD

    def bare(self, part: BatchRequest) -> RawRequestMessage:
        """What stands for a request that is refused without being run."""
        headers = self._always.copy()
        headers.extend(self._otherwise)
        return _message(part.method, "/", URL("/"), headers)

    def _message(self, part: BatchRequest, *, has_body: bool) -> RawRequestMessage:
        headers = self._headers(part)
        path = self._path(part.url)
        if has_body:
            headers.setdefault(hdrs.CONTENT_TYPE, "application/json")
        try:
            return _message(part.method, path, URL(path, encoded=True), headers)
        except ValueError:
            raise Invalid("url: is malformed", target="url") from None

    def _headers(self, part: BatchRequest) -> CIMultiDict[str]:
        headers = self._always.copy()
        for name, value in (part.headers or {}).items():
            if not _NAME.fullmatch(name) or _CONTROL.search(value):
                raise Invalid("headers: a name or a value that HTTP does not allow", target="headers")
            if name.lower() not in _NOT_ITS_OWN:
                headers.add(name, value)
        for name, value in self._otherwise:
            headers.setdefault(name, value)
        if part.depends_on and "Prefer" in headers:
            self._bound_wait(headers)
        return headers

    def _bound_wait(self, headers: CIMultiDict[str]) -> None:
        """Let a request that comes after others wait no longer than the batch as a whole may."""
        left = max(0, int(self._ends - asyncio.get_running_loop().time()))
        lines = [_WAIT.sub(lambda match: f"wait={min(int(match[1]), left)}", line) for line in headers.popall("Prefer")]
        headers.extend(("Prefer", line) for line in lines)

    def _path(self, url: str) -> str:
        """Path and query at this server, from a URL that is absolute or relative to the service root.

        Graph's clients write `/communications/…`, `communications/…` and, where they kept the version,
        `/v1.0/communications/…`. What a client would have to percent-encode may stand as it is.
        """
        if _ABSOLUTE.match(url):
            found = self._batch.app[ADDRESSES].path_of(self._batch, url)
            if found is None:
                raise Invalid("url: is another server's", target="url")
            url = found
        url = "/" + url.partition("#")[0].lstrip("/")
        if not any(url.startswith(f"{prefix}/") for prefix in PREFIXES if prefix):
            url = self._prefix + url
        return url if _VISIBLE.fullmatch(url) else quote(url, safe=_ALL_VISIBLE)


def _message(method: str, path: str, url: URL, headers: CIMultiDict[str]) -> RawRequestMessage:
    return RawRequestMessage(
        method, path, HttpVersion11, CIMultiDictProxy(headers), (), False, None, False, False, url
    )  # fmt: skip
