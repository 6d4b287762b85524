"""Responses to clients that close their half of the connection after a request, and still read (RFC 9112, 9.6).

Nobody can see whether a client that sends nothing more still reads. So only responses are sent that come soon. Waits
and streams end.
"""

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    import asyncio

HALF_CLOSED_SECONDS: Final = 5.0
"""How long the response to a whole request may take after its client has closed its half of the connection."""


class HalfClosedHandler(RequestHandler):
    """aiohttp's protocol of one connection. It sends the responses to whole requests after the client's half is closed.

    aiohttp itself closes the connection as soon as the client has closed its half.
    """

    __slots__ = ("end_of_half_closed", "payload", "responses_sent", "sends_in_handler", "tasks_of_client")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.tasks_of_client: set[asyncio.Task[Any]] = set()
        """Tasks that end when the client goes away."""
        self.responses_sent = 0
        self.sends_in_handler = False
        """Whether a handler sends its response itself, and has not sent all of it. A stream does not count."""
        self.payload: StreamReader = EMPTY_PAYLOAD
        """The body of the request that has left the queue last. The server sets it."""
        self.end_of_half_closed: asyncio.TimerHandle | None = None
        """Ends the connection of a client that has closed its half and waits for a response. None for other clients."""

    @property
    def is_half_closed(self) -> bool:
        """Whether the client has closed its half of the connection, and the connection is open."""
        return self.end_of_half_closed is not None and self.transport is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has gone away, or has closed its half, so that nothing may wait for long."""
        return self.transport is None or self.end_of_half_closed is not None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the tasks that end with their client."""
        super().connection_lost(exc)
        for task in self.tasks_of_client:
            task.cancel()
        if self.end_of_half_closed is not None:
            self.end_of_half_closed.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads the result, and aiohttp has none
        """Keep the connection open while a whole request waits for its response, which is no wait and no stream."""
        super().eof_received()
        if self.tasks_of_client or not self._owes_a_response():
            return False
        if self.end_of_half_closed is None:  # else asyncio has read the end once more, after a pause
            self.end_of_half_closed = self._loop.call_later(HALF_CLOSED_SECONDS, self._give_up)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response. Close the connection after the last response to a client that has closed its half."""
        finished = await super().finish_response(request, resp, start_time)
        self.responses_sent += 1
        end = self.end_of_half_closed
        if end is not None and (not self._messages or end.when() <= self._loop.time()):
            self.close()
        return finished

    def _owes_a_response(self) -> bool:
        """Whether a whole request waits for its response, or its response is being sent."""
        if self._request_count - self.responses_sent > len(self._messages):  # a request has left the queue
            return self._is_sending() or self.payload.is_eof()
        return bool(self._messages) and self._messages[0][1].is_eof()

    def _is_sending(self) -> bool:
        """Whether a handler has made its response, and the response is not sent to its end."""
        return self.sends_in_handler or (self._request_in_progress and self._current_request is None)

    def _give_up(self) -> None:
        if not self._is_sending():
            self.force_close()
