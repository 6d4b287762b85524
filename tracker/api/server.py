"""The HTTP server around the application. Every response passes it, also the responses to bytes that are not HTTP.

It replaces aiohttp's own error pages (of routing, `Expect`, the parser and crashed handlers) by Graph's error body, and
adds the headers that docs/api.md promises for every response.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from random import randbytes
from typing import Final, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

from tracker.api.error_responses import RequestIds, error_response, response_for
from tracker.api.half_closed import HalfClosedHandler
from tracker.api.headers import client_request_id, odata_version
from tracker.api.lengths import LONGEST_FIELD, LONGEST_TARGET, MOST_FIELDS
from tracker.api.parser_errors import parser_error
from tracker.errors import Invalid
from tracker.store.codec import as_uuid, uuid_digits

log = structlog.get_logger()

SERVER_NAME: Final = "operation-tracker"
SHUTDOWN_SECONDS: Final = 10.0
"""The longest time that a stopping server waits for requests under way."""

LINGER_SECONDS: Final = 2.0
"""The longest time that the rest of a refused body is read. Without that, its sender would not see the response."""

_SLASHES: Final = re.compile("/{2,}")

Refuse = Callable[[web.BaseRequest], web.Response | None]
"""The check before routing: the response to a request that is refused, or None. It may raise an error, too."""


class Connection(HalfClosedHandler):
    """aiohttp's protocol of one connection, with our error responses."""

    __slots__ = ("server",)
    server: "Server"

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text, which quotes what was sent
    ) -> web.StreamResponse:
        """Respond to bytes that aiohttp could not parse as a request, and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of a response is sent already")
        ids = ids_of(request.headers)
        if status == HTTPStatus.BAD_REQUEST:
            log.info("request_refused", reason=type(exc).__name__, remote=request.remote, request_id=ids.request)
            response = error_response(*parser_error(exc), ids)
        else:
            response = response_for(exc if isinstance(exc, Exception) else TimeoutError(), request, ids)
        response.headers.update(standard_headers(request, ids))
        response.force_close()
        return response


@contextmanager
def cancelled_on_disconnect(request: web.BaseRequest) -> Iterator[None]:
    """Cancel the current task if the client goes away within the body. Every other task outlives its client."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("the request is not one of this server's")
    task = asyncio.current_task()
    if task is None:
        raise TypeError("there is no current task")
    connection.tasks_of_client.add(task)
    if connection.is_abandoned:
        task.cancel()
    try:
        yield
    finally:
        connection.tasks_of_client.discard(task)


def is_half_closed(request: web.BaseRequest) -> bool:
    """Whether the client has closed its half of the connection, and may still read a response that comes soon."""
    connection = request.protocol
    return isinstance(connection, Connection) and connection.is_half_closed


class Server(web.Server):
    """Makes our connections, and rewrites duplicate slashes before a request is routed."""

    def __init__(self, inner: web.Server, loop: asyncio.AbstractEventLoop, refuse: Refuse) -> None:
        self._refuse = refuse
        self._route = inner.request_handler
        self._inner_factory = inner.request_factory
        super().__init__(
            self._respond,
            request_factory=self._receive,
            loop=loop,
            access_log=None,
            lingering_time=LINGER_SECONDS,
            max_line_size=LONGEST_TARGET,
            max_field_size=LONGEST_FIELD,
            max_headers=MOST_FIELDS,
        )

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        connection = Connection(self, loop=self._loop, **self._kwargs)
        connection.server = self
        return connection

    def _receive(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Make the request that a connection has received."""
        cast("Connection", protocol).payload = payload
        return self._request(message, payload, protocol, writer, task)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return self._inner_factory(_with_single_slashes(message), payload, protocol, writer, task)

    async def respond_to_subrequest(
        self, outer: web.BaseRequest, message: RawRequestMessage, payload: StreamReader
    ) -> web.StreamResponse:
        """Respond to a request that came inside another one, as if it had come by itself."""
        return await self._respond(self._request(message, payload, outer.protocol, _SUBREQUEST_WRITER, outer.task))

    def refuse_subrequest(self, outer: web.BaseRequest, message: RawRequestMessage, error: Exception) -> web.Response:
        """The response with an error to a request that came inside another one, and is not run."""
        request = self._request(message, EMPTY_PAYLOAD, outer.protocol, _SUBREQUEST_WRITER, outer.task)
        ids = ids_of(request.headers)
        response = response_for(error, request, ids)
        response.headers.update(standard_headers(request, ids))
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        ids = ids_of(request.headers)
        try:
            refused = None if is_subrequest(request) else self._refuse(request)
            response = await self._route(request) if refused is None else refused
        except Exception as error:  # noqa: BLE001 - every error gets a response; an unexpected one is logged
            response = response_for(error, request, ids)
            if request.content.exception() is not None:  # after a broken body, the next request cannot be found
                response.force_close()
        response.headers.update(standard_headers(request, ids))
        return response


class Runner(web.AppRunner):
    """aiohttp's runner with our server, and with a check of each request before it is routed."""

    def __init__(self, app: web.Application, refuse: Refuse) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_SECONDS)
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), asyncio.get_running_loop(), self._refuse)


class _SubrequestWriter(AbstractStreamWriter):
    """Refuses to write. The response to a subrequest becomes a part of another body, so that it cannot be a stream."""

    async def write_headers(self, *_: object) -> None:
        raise Invalid("A stream cannot be part of a batch's response. Send this request outside the batch.")

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


_SUBREQUEST_WRITER: Final = _SubrequestWriter()
"""The writer of every subrequest."""


def is_subrequest(request: web.BaseRequest) -> bool:
    """Whether a request came inside another one."""
    return request.writer is _SUBREQUEST_WRITER


def ids_of(headers: CIMultiDictProxy[str]) -> RequestIds:
    """A new id for a request with these headers, and the id that its client gave it."""
    return RequestIds(request=new_request_id(), client=client_request_id(headers.get("client-request-id")))


def new_request_id() -> str:
    """A random GUID (RFC 9562, version 4).

    Plain code would be `str(uuid4())`, which asks the system for random bytes and makes an object first. That costs
    3.5 % more instructions in `make bench-api`: $batch, and 2.5 % more in 304.
    """
    return as_uuid(uuid_digits(randbytes(16)))  # noqa: S311 - the id protects nothing


def standard_headers(request: web.BaseRequest, ids: RequestIds) -> dict[str, str]:
    """The headers of every response, except for `Date`, which aiohttp adds."""
    headers = {
        "request-id": ids.request,
        "OData-Version": odata_version(request.headers.get("OData-MaxVersion", "")),
        hdrs.SERVER: SERVER_NAME,
    }
    if ids.client is not None:
        headers["client-request-id"] = ids.client
    return headers


def _with_single_slashes(message: RawRequestMessage) -> RawRequestMessage:
    """The message with single slashes in its path. The query is not changed, and neither is a target that is a URL."""
    if "//" not in message.path:  # for speed: what follows costs 3 % of the instructions of bench-api: read one and 304
        return message
    path = _SLASHES.sub("/", message.url.raw_path)
    if path == message.url.raw_path:
        return message
    url = message.url.with_path(path, encoded=True, keep_query=True)
    return message._replace(url=url, path=message.path if url.absolute else url.raw_path_qs)
