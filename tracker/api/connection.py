"""One connection of the HTTP server: errors outside of requests, limits, and tasks that end with their client."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from random import randbytes
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo
from multidict import CIMultiDictProxy

from tracker.api.body_errors import BodyError
from tracker.api.body_framing import BodyFraming
from tracker.api.connection_limits import RETRY_AFTER, Admission, ConnectionLimits
from tracker.api.error_responses import RequestIds, error_response, response_for
from tracker.api.half_closed import HalfClosedHandler
from tracker.api.headers import client_request_id, odata_version
from tracker.api.parser_errors import parser_error
from tracker.store.codec import as_uuid, uuid_digits

if TYPE_CHECKING:
    from tracker.api.refusal_log import RefusalLog
    from tracker.api.slow_clients import Progress, SlowClients

log = structlog.get_logger()

SERVER_NAME: Final = "operation-tracker"
NEVER: Final = float("inf")


class Connection(HalfClosedHandler):
    """aiohttp's protocol of one connection, with our error responses."""

    __slots__ = (
        "_framing",
        "_limits",
        "_refusals",
        "_slow_clients",
        "admission",
        "counts_requests",
        "head_since",
        "incoming",
        "opened",
        "outgoing",
        "server",
        "socket_transport",
    )

    def __init__(
        self,
        server: web.Server,
        limits: ConnectionLimits,
        slow_clients: "SlowClients",
        refusals: "RefusalLog",
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self.server = server
        self._limits, self._slow_clients, self._refusals = limits, slow_clients, refusals
        self.socket_transport: asyncio.Transport | None = None
        """The transport until the socket is closed. aiohttp's own attribute is None from the start of closing."""
        self.admission = Admission.FULL
        self.counts_requests = False
        """Whether each request is checked and counted, because the connection is not a client's own."""
        self.opened = 0.0
        """The loop's time at which the connection was accepted."""
        self.head_since = NEVER
        """The loop's time at which the client began to send the headers of a request; NEVER while it sends none."""
        self._framing = BodyFraming()
        self.incoming: Progress | None = None
        self.outgoing: Progress | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection. One over the limits is answered 503 and closed."""
        self.socket_transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.admission = self._limits.admit(self, peer[0] if isinstance(peer, tuple) else None)
        self.opened = self.head_since = self._loop.time()
        self._slow_clients.add(self)
        if self.admission is Admission.NONE:
            self._force_close = True  # what the client sends is not parsed
            self._end_with(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections are open.", retry_after=RETRY_AFTER)
            return
        self.counts_requests = self.admission is Admission.PROBES or self._limits.is_of_proxy(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - see below
        """Cancel the tasks that end with their client, and forget the connection."""
        transport, self.socket_transport, self.payload = self.socket_transport, None, EMPTY_PAYLOAD
        self._slow_clients.discard(self)
        self._limits.release(self)
        # aiohttp raises the error in a write that waits for the client. Then the error, its traceback and the response
        # would hold each other until the next full garbage collection. Without the error, the write ends.
        super().connection_lost(None)
        self._framing.forget()
        if transport is not None:
            self._loop.call_soon(_break_cycle, transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client, and refuse a body that is nearly all extensions of chunks.

        Note the time at which the client began to send the headers of a request, if they are not complete.
        """
        super().data_received(data)
        if self._framing.is_too_much(data, self._messages):
            self.close()  # ends the connection after the response
        self._refuse_broken_body()
        waiter = self._waiter
        if waiter is not None and self.head_since is NEVER and not waiter.done() and data.strip(b"\r\n"):
            self.head_since = self._loop.time()

    def _refuse_broken_body(self) -> None:
        """End a body in which the parser has found an error. The parser tells nobody who waits for the body."""
        messages = self._messages
        if not messages or not isinstance(messages[-1][0], _ErrInfo):
            return
        body = messages[-2][1] if len(messages) > 1 else self.payload
        if not body.is_eof() and body.exception() is None:
            body.set_exception(BodyError("The body is not framed as its headers say."))
            self.close()  # what else arrives is not parsed

    @property
    def reading_paused(self) -> bool:
        """Whether this process does not read from the client, because it has not used what has arrived."""
        return self._reading_paused or self._buffer_paused

    def end_head(self) -> None:
        """End a connection whose client takes too long to send the headers of a request."""
        self._end_with(HTTPStatus.REQUEST_TIMEOUT, "The headers of the request arrived too slowly.")
        self.force_close()

    def _end_with(self, status: HTTPStatus, message: str, *, retry_after: int | None = None) -> None:
        """Send an error outside any request, and close the connection."""
        if self.socket_transport is not None:
            self.socket_transport.write(error_bytes(status, message, retry_after=retry_after))
            self.socket_transport.close()

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
            response = error_response(*parser_error(exc), ids)
            self._refusals.note(request, response.status, ids.request, reason=type(exc).__name__)
        else:
            response = response_for(exc if isinstance(exc, Exception) else TimeoutError(), request, ids)
        response.headers.update(standard_headers(request, ids))
        response.force_close()
        if exc is not None:
            forget_frames(exc)
        return response


def forget_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error that a connection or a body keeps, and of those before it.

    The frames of a traceback hold the request, and the request holds the error. Only a full garbage collection, which
    is rare (see `gc_tuning`), would free them, with the bodies of request and response.
    """
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def _break_cycle(transport: asyncio.BaseTransport) -> None:
    """Break a cycle of references in a closed transport of asyncio, which keeps a bound method of itself.

    A connection would be garbage that only a full collection frees. uvloop's transports have no such attribute.
    """
    for name in ("_read_ready_cb", "_write_ready"):
        if name in getattr(transport, "__dict__", {}):
            setattr(transport, name, None)


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


def error_bytes(status: HTTPStatus, message: str, *, retry_after: int | None = None) -> bytes:
    """A whole response with an error, for a connection that has no request to respond to."""
    ids = RequestIds(request=new_request_id())
    body = cast("bytes", error_response(status, message, ids).body)
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: "application/json; charset=utf-8",
        hdrs.CONTENT_LENGTH: str(len(body)),
        hdrs.DATE: formatdate(usegmt=True),
        hdrs.CONNECTION: "close",
        **_standard_headers("", ids),
    }
    if retry_after is not None:
        headers[hdrs.RETRY_AFTER] = str(retry_after)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode() + body


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
    return _standard_headers(request.headers.get("OData-MaxVersion", ""), ids)


def _standard_headers(max_version: str, ids: RequestIds) -> dict[str, str]:
    headers = {"request-id": ids.request, "OData-Version": odata_version(max_version), hdrs.SERVER: SERVER_NAME}
    if ids.client is not None:
        headers["client-request-id"] = ids.client
    return headers
