"""The HTTP server around the application. Every response passes it, also the responses to bytes that are not HTTP.

It replaces aiohttp's own error pages (of routing, `Expect`, the parser and crashed handlers) by Graph's error body, and
adds the headers that docs/api.md promises for every response.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final, NoReturn, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from tracker.api.connection import NEVER, Connection, forget_frames, ids_of, standard_headers
from tracker.api.connection_limits import Admission, ConnectionLimits
from tracker.api.error_responses import IDS, response_for
from tracker.api.lengths import LONGEST_FIELD, LONGEST_TARGET, MOST_FIELDS
from tracker.api.refusal_log import LOGGED, REFUSALS, RefusalLog
from tracker.api.slow_clients import SlowClients
from tracker.config import Settings
from tracker.errors import Invalid

SHUTDOWN_SECONDS: Final = 10.0
"""The longest time that a stopping server waits for requests under way."""

LINGER_SECONDS: Final = 2.0
"""The longest time that the rest of a refused body is read. Without that, its sender would not see the response."""

_SLASHES: Final = re.compile("/{2,}")
_VERSIONS: Final = (HttpVersion11, HttpVersion10)
"""The versions of HTTP that are served. aiohttp's parser also lets 0.9 (a line without a version) and 2.0 pass."""


Refuse = Callable[[web.BaseRequest], web.Response | None]
"""The check before routing: the response to a request that is refused, or None. It may raise an error, too."""


class Server(web.Server):
    """Makes our connections, and rewrites duplicate slashes before a request is routed."""

    def __init__(
        self,
        inner: web.Server,
        limits: ConnectionLimits,
        slow_clients: SlowClients,
        refusals: RefusalLog,
        refuse: Refuse,
        *,
        idle_timeout: float,
    ) -> None:
        self.refusals, self._refuse = refusals, refuse
        self._route = inner.request_handler
        self._inner_factory = inner.request_factory
        self.limits = limits
        self.slow_clients = slow_clients
        super().__init__(
            self._respond,
            request_factory=self._receive,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,  # `request_bodies` decompresses, after the request is authenticated
            keepalive_timeout=idle_timeout,
            lingering_time=LINGER_SECONDS,
            max_line_size=LONGEST_TARGET,
            max_field_size=LONGEST_FIELD,
            max_headers=MOST_FIELDS,
        )

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, self.limits, self.slow_clients, self.refusals, loop=self._loop, **self._kwargs)

    def _receive(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Make the request that a connection has received."""
        connection = cast("Connection", protocol)
        connection.payload, connection.head_since = payload, NEVER
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
        if response.status in LOGGED:
            self.refusals.note(request, response.status, ids.request)
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        ids = request[IDS] = ids_of(request.headers)
        connection = cast("Connection", request.protocol)
        try:
            if request._version not in _VERSIONS:  # noqa: SLF001 - a read of `version` would fix it for `_refuse_version`
                _refuse_version(request)
            is_inner = is_subrequest(request)
            refused = None if is_inner else self._refuse(request)
            if refused is not None:
                response: web.StreamResponse = refused
            elif connection.counts_requests and not is_inner:
                with self.limits.counted(connection, request):
                    response = await self._route(request)
            else:
                response = await self._route(request)
        except Exception as error:  # noqa: BLE001 - every error gets a response; an unexpected one is logged
            response = response_for(error, request, ids)
            if request.writer.output_size > 0:
                raise ConnectionError("part of a response is sent already") from None
            broken = request.content.exception()
            if broken is not None:
                forget_frames(broken)
            if broken is not None or isinstance(error, _OtherVersion):  # the next request cannot be found
                response.force_close()
        response.headers.update(standard_headers(request, ids))
        if response.status in LOGGED:
            self.refusals.note(request, response.status, ids.request)
        if connection.admission is Admission.PROBES:
            response.force_close()
        return response


class Runner(web.AppRunner):
    """aiohttp's runner with our server, and with a check of each request before it is routed."""

    def __init__(self, app: web.Application, settings: Settings, limits: ConnectionLimits, refuse: Refuse) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_SECONDS)
        self._limits, self._refuse = limits, refuse
        self.slow_clients = SlowClients(settings, limits)
        self._idle_timeout = settings.idle_timeout

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()
        return Server(
            inner,
            self._limits,
            self.slow_clients,
            self.app[REFUSALS],
            self._refuse,
            idle_timeout=self._idle_timeout,
        )


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


def server_of(request: web.BaseRequest) -> Server:
    """The server of a request's connection. Raises TypeError for a request that came to another server."""
    server = request.protocol.server if isinstance(request.protocol, Connection) else None
    if not isinstance(server, Server):
        raise TypeError("the request is not one of this server's")
    return server


def is_subrequest(request: web.BaseRequest) -> bool:
    """Whether a request came inside another one."""
    return request.writer is _SUBREQUEST_WRITER


class _OtherVersion(Invalid):
    """The request is of a version of HTTP that is not served."""


def _refuse_version(request: web.BaseRequest) -> NoReturn:
    """Refuse a request of a version that this server does not speak, in a version that it speaks (RFC 9112, 2.3)."""
    request._version = HttpVersion11  # noqa: SLF001 - aiohttp answers in the version of the request
    raise _OtherVersion("This server speaks HTTP/1.1 and HTTP/1.0. The request line names another version, or none.")


def _with_single_slashes(message: RawRequestMessage) -> RawRequestMessage:
    """The message with single slashes in its path. The query is not changed, and neither is a target that is a URL."""
    if "//" not in message.path:  # for speed: what follows costs 3 % of the instructions of bench-api: read one and 304
        return message
    path = _SLASHES.sub("/", message.url.raw_path)
    if path == message.url.raw_path:
        return message
    url = message.url.with_path(path, encoded=True, keep_query=True)
    return message._replace(url=url, path=message.path if url.absolute else url.raw_path_qs)
