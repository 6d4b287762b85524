"""The server around the application: every answer passes here, also those to bytes that are not HTTP.

aiohttp's own error pages (routing, `Expect`, its parser, crashed handlers) are replaced by Graph's error body, and
each answer gets the headers that the contract promises.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from random import randbytes
from typing import Any, Final

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

from tracker.api.error_responses import Ids, answer, answer_error
from tracker.api.headers import ENCODING_NEEDED, client_request_id, odata_version
from tracker.errors import Invalid
from tracker.store.codec import as_uuid, uuid_digits

log = structlog.get_logger()

SERVER_NAME: Final = "operation-tracker"
SHUTDOWN_SECONDS: Final = 10.0
"""How long a stopping server waits for requests that are being answered."""

LINGER_SECONDS: Final = 2.0
"""How long a body that nobody wants is still read, so that its sender gets to see the answer."""

_SLASHES: Final = re.compile("/{2,}")


class Connection(RequestHandler):
    """aiohttp's protocol with our error answers."""

    __slots__ = ("held", "paused", "server")
    server: "Server"

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.held: set[asyncio.Task[Any]] = set()
        """What is of no use once the client has gone away."""
        self.paused = False
        """Whether a body is too large to be read on before somebody takes of it."""

    def pause_reading(self) -> None:
        """Read no more of a body until somebody has taken of it; aiohttp calls this."""
        self.paused = True
        super().pause_reading()

    def resume_reading(self, *how: Any, **more: Any) -> None:
        """Read on after a pause. aiohttp says so after every piece of a body; where nothing paused, nothing goes on."""
        if self.paused:
            self.paused = False
            super().resume_reading(*how, **more)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what is held for the client."""
        super().connection_lost(exc)
        for task in self.held:
            task.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text, which quotes what was sent
    ) -> web.StreamResponse:
        """Answer what never became a request, and close the connection. A parser's error is never ours."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        ids = ids_of(request.headers)
        if status == HTTPStatus.BAD_REQUEST:
            log.info("request_refused", reason=type(exc).__name__, remote=request.remote, request_id=ids.request)
            response = answer(*_refusal(exc), ids)
        else:
            response = answer_error(exc if isinstance(exc, Exception) else TimeoutError(), request, ids)
        stamp(response, request, ids)
        response.force_close()
        return response


@contextmanager
def disconnecting(request: web.BaseRequest) -> Iterator[None]:
    """Cancel what is done within when the client goes away. Everything else goes on to its end without it."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("the request is not one of this server's")
    task = asyncio.current_task()
    if task is None:
        raise TypeError("nothing that could be cancelled")
    connection.held.add(task)
    if connection.transport is None:
        task.cancel()  # it went before
    try:
        yield
    finally:
        connection.held.discard(task)


class Server(web.Server):
    """Makes our connections, and rewrites duplicate slashes before a request is routed."""

    def __init__(self, inner: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        self._route = inner.request_handler
        self._inner_factory = inner.request_factory
        super().__init__(
            self._answer,
            request_factory=self._request,
            loop=loop,
            access_log=None,
            lingering_time=LINGER_SECONDS,
        )

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        connection = Connection(self, loop=self._loop, **self._kwargs)
        connection.server = self
        return connection

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if "//" in message.path:
            message = _with_single_slashes(message)
        return self._inner_factory(message, payload, protocol, writer, task)

    async def answer_inside(
        self, outer: web.BaseRequest, message: RawRequestMessage, payload: StreamReader
    ) -> web.StreamResponse:
        """Answer a request that came inside another, as if it had come by itself."""
        return await self._answer(self._request(message, payload, outer.protocol, NOWHERE, outer.task))

    def refuse_inside(self, outer: web.BaseRequest, message: RawRequestMessage, error: Exception) -> web.Response:
        """Answer a request that came inside another, and is not run, with an error."""
        request = self._request(message, EMPTY_PAYLOAD, outer.protocol, NOWHERE, outer.task)
        ids = ids_of(request.headers)
        response = answer_error(error, request, ids)
        stamp(response, request, ids)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        ids = ids_of(request.headers)
        try:
            response = await self._route(request)
        except Exception as error:  # noqa: BLE001 - the last place that can answer; what is unexpected is logged
            response = answer_error(error, request, ids)
            if request.content.exception() is not None:  # the body ended wrong, and so does the connection
                response.force_close()
        stamp(response, request, ids)
        return response


class Runner(web.AppRunner):
    """aiohttp's runner with our server."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_SECONDS)

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), asyncio.get_running_loop())


class _Nowhere(AbstractStreamWriter):
    """Where a request inside another writes to: its answer is handed over whole, so that a stream cannot be one."""

    async def write_headers(self, *_: object) -> None:
        raise Invalid("An answer that is a stream cannot stand inside another; send this request by itself.")

    async def write(self, *_: object) -> None:
        raise AssertionError("nothing is written before the headers")

    async def write_eof(self, *_: object) -> None:
        raise AssertionError("nothing is written before the headers")

    async def drain(self) -> None:
        raise AssertionError("nothing is written before the headers")

    def enable_compression(self, *_: object) -> None:
        """Nothing is written."""

    def enable_chunking(self) -> None:
        """Nothing is written."""


NOWHERE: Final = _Nowhere()
"""The writer of every request that is inside another."""


def is_inside(request: web.BaseRequest) -> bool:
    """Whether a request came inside another."""
    return request.writer is NOWHERE


def _refusal(error: BaseException | None) -> tuple[HTTPStatus, str]:
    match error:
        case ContentEncodingError():
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ENCODING_NEEDED
        case LineTooLong():
            return HTTPStatus.BAD_REQUEST, "A line or header of the request is too long."
        case _:
            return HTTPStatus.BAD_REQUEST, "The request is not valid HTTP."


def ids_of(headers: CIMultiDictProxy[str]) -> Ids:
    """New names for a request with these headers, with its client's."""
    return Ids(request=new_request_id(), client=client_request_id(headers.get("client-request-id")))


def new_request_id() -> str:
    """A random GUID (RFC 9562, version 4). It names, and protects nothing: the process's own generator will do."""
    return as_uuid(uuid_digits(randbytes(16)))  # noqa: S311 - see above


def stamp(response: web.StreamResponse, request: web.BaseRequest, ids: Ids) -> None:
    """Add the headers that every answer carries."""
    response.headers.update(standard_headers(request, ids))


def standard_headers(request: web.BaseRequest, ids: Ids) -> dict[str, str]:
    """The headers that every answer carries, but for `Date`, which aiohttp adds."""
    headers = {
        "request-id": ids.request,
        "OData-Version": odata_version(request.headers.get("OData-MaxVersion", "")),
        hdrs.SERVER: SERVER_NAME,
    }
    if ids.client is not None:
        headers["client-request-id"] = ids.client
    return headers


def _with_single_slashes(message: RawRequestMessage) -> RawRequestMessage:
    """The message with runs of slashes in its path made one; the query stays as it is."""
    path = _SLASHES.sub("/", message.url.raw_path)
    if path == message.url.raw_path:
        return message
    url = message.url.with_path(path, encoded=True, keep_query=True)
    return message._replace(url=url, path=url.raw_path_qs)
