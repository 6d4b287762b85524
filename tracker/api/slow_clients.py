"""Ends the connections of clients that send a request, or read a response, too slowly.

Requests that wait (`Prefer: wait`) and streams of events have no limit here: their clients have sent the whole request,
and nothing is left to be read. aiohttp ends idle connections.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp.streams import StreamReader

from tracker.api.body_errors import BodyTimeoutError
from tracker.api.connection_limits import Admission, ConnectionLimits
from tracker.config import Settings

log = structlog.get_logger()

TICK: Final = 1.0
"""The time in seconds between two checks of all connections."""
SLICE: Final = 500
"""How many connections are checked before requests have their turn. That takes a quarter of a millisecond."""
GRACE: Final = 10.0
"""The time in seconds for which a body or a response may make no progress."""
PROBE_SECONDS: Final = 5.0
"""The longest time in seconds for which a connection over the limit is open."""
LOG_INTERVAL: Final = 60.0
"""The time in seconds between two lines of the log about refused connections and slow clients."""


@dataclass(slots=True)
class Progress:
    """A measurement of the bytes that a client sends or reads."""

    since: float
    count: int
    """For a body, the bytes that had arrived at the start. For a response, the bytes that were left to be sent."""
    body: StreamReader | None = None
    """The body that is measured."""
    done: int = 0

    def is_too_slow(self, now: float, rate: int) -> bool:
        """Whether fewer bytes have passed than the least rate demands."""
        return self.done < rate * (now - self.since - GRACE)


class Watched(Protocol):
    """A connection, as `SlowClients` sees it. `tracker.api.connection` says what each attribute means."""

    admission: Admission
    opened: float
    head_since: float
    payload: StreamReader
    incoming: Progress | None
    outgoing: Progress | None
    socket_transport: asyncio.Transport | None

    @property
    def writing_paused(self) -> bool:
        """Whether the client has much of the response left to read."""

    @property
    def reading_paused(self) -> bool:
        """Whether this process does not read from the client at the moment."""

    def end_head(self) -> None:
        """End the connection, because the headers of a request take too long."""


class SlowClients:
    """Checks all connections of a process once a second."""

    def __init__(self, settings: Settings, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._header_seconds = settings.header_timeout
        self._rate = settings.least_rate
        self._connections: set[Watched] = set()
        self.ended: Counter[str] = Counter()
        """How many connections were ended since the last line of the log, by what was slow."""

    def add(self, connection: Watched) -> None:
        """Watch a new connection."""
        self._connections.add(connection)

    def discard(self, connection: Watched) -> None:
        """Watch a connection no longer, because it is closed."""
        self._connections.discard(connection)

    async def watch(self) -> None:
        """Check all connections, once a second. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        quiet_until = 0.0
        while True:
            await asyncio.sleep(TICK)
            for position, connection in enumerate(tuple(self._connections), start=1):
                self._check(connection, loop.time())
                if position % SLICE == 0:
                    await asyncio.sleep(0)
            if loop.time() >= quiet_until and self._log():
                quiet_until = loop.time() + LOG_INTERVAL

    def _check(self, connection: Watched, now: float) -> None:
        transport = connection.socket_transport
        if transport is None:
            return
        if connection.writing_paused or transport.is_closing():
            self._check_response(connection, transport, now)
        elif connection.admission is Admission.PROBES and now > connection.opened + PROBE_SECONDS:
            transport.abort()
        elif now > connection.head_since + self._header_seconds:
            self.ended["head"] += 1
            connection.end_head()
        elif not connection.payload.is_eof():
            self._check_body(connection, now)
        connection.outgoing = connection.outgoing if connection.writing_paused or transport.is_closing() else None

    def _check_response(self, connection: Watched, transport: asyncio.Transport, now: float) -> None:
        left = transport.get_write_buffer_size()
        progress = connection.outgoing = connection.outgoing or Progress(now, left)
        progress.done += max(0, progress.count - left)  # a response that grows has more bytes left than before
        progress.count = left
        if progress.is_too_slow(now, self._rate):
            self.ended["response"] += 1
            transport.abort()

    def _check_body(self, connection: Watched, now: float) -> None:
        body, progress = connection.payload, connection.incoming
        if connection.reading_paused or body.exception() is not None:
            connection.incoming = None  # the client has to wait for this process, or the body is refused already
        else:
            if progress is None or progress.body is not body:
                progress = connection.incoming = Progress(now, body.total_bytes, body)
            progress.done = body.total_bytes - progress.count
            if progress.is_too_slow(now, self._rate):
                self.ended["body"] += 1
                body.set_exception(BodyTimeoutError("The body arrived too slowly."))

    def _log(self) -> bool:
        """Log what was refused and ended since the last line. Returns whether there was anything."""
        refused, ended = self._limits.refused, self.ended
        if refused:
            log.warning("connections_refused", total=refused["total"], address=refused["address"])
        if ended:
            log.warning("slow_clients_ended", head=ended["head"], body=ended["body"], response=ended["response"])
        anything = bool(refused or ended)
        refused.clear()
        ended.clear()
        return anything
