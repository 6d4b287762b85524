"""The connection between a manager and a host, for a process with an event loop.

The manager uses it, and so does a host of coroutines. A host of functions has no loop, and uses its socket itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from workers.frames import FrameReader, Message, encode, frame


class HostConnection(asyncio.Protocol):
    """One end of the socket between a manager and a host.

    `on_message` gets each message that arrives. With `keep_open`, this end can still send after the other end has
    finished.

    Messages that are sent in one turn of the event loop go out in one frame, at the end of the turn. Plain code would
    send each at once, which costs 20 µs more of the 157 µs of an attempt (benchmarks/workers.py: tracker, noop).
    """

    def __init__(self, on_message: Callable[[Message], None], *, keep_open: bool = False) -> None:
        self.on_message, self._keep_open = on_message, keep_open
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._peer_finished = asyncio.Event()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. asyncio calls this."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on each message that is complete. asyncio calls this."""
        for message in self._reader.feed(data):
            self.on_message(message)

    def eof_received(self) -> bool:
        """Note that the other end has finished sending. asyncio calls this, and closes the transport on False."""
        self._peer_finished.set()
        return self._keep_open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Note that the connection is closed. asyncio calls this."""
        self._peer_finished.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, message: Message) -> None:
        """Send a message at the end of this turn of the loop. Raises TypeError for a value without a form in JSON."""
        data = encode(message)
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.append(data)

    def flush(self) -> None:
        """Send now what would be sent at the end of this turn."""
        if self._outgoing and not self._transport.is_closing():
            self._transport.write(frame(self._outgoing))
        self._outgoing = []

    def finish(self) -> None:
        """Tell the other end that no more messages will come."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    async def peer_finished(self) -> None:
        """Wait until the other end has finished sending."""
        await self._peer_finished.wait()

    async def close(self) -> None:
        """Close the connection after everything is sent."""
        self.flush()
        self._transport.close()
        await self.closed

    def abort(self) -> None:
        """Close the connection now, without sending what is left."""
        self._transport.abort()
