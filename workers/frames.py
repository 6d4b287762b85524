"""Messages between a manager and its hosts: JSON arrays of messages, each array after its length."""

import asyncio
from collections.abc import Callable
from typing import Any

from tracker.domain.operation import Json
from tracker.json_codec import decode, encode

HEAD = 4
"""Bytes of a length, big-endian."""


def frame(messages: list[bytes]) -> bytes:
    """Many encoded messages in one frame."""
    body = b"[" + b",".join(messages) + b"]"
    return len(body).to_bytes(HEAD) + body


class Unframer:
    """Gives messages back as their bytes come in, in whatever pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Json]:
        """The messages that are complete with these bytes."""
        self._buffer += data
        found: list[Json] = []
        start = 0
        while len(self._buffer) - start >= HEAD:
            end = start + HEAD + int.from_bytes(self._buffer[start : start + HEAD])
            if len(self._buffer) < end:
                break
            found += decode(self._buffer[start + HEAD : end].decode())
            start = end
        del self._buffer[:start]
        return found


class Line(asyncio.Protocol):
    """One end of the line to the other process. What is sent within one turn of the loop goes out together."""

    def __init__(self, on_message: Callable[[Json], None], *, keep_open: bool = False) -> None:
        self._keep_open = keep_open
        self._on_message = on_message
        self._unframer = Unframer()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._ended = asyncio.Event()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio calls this."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on each message; asyncio calls this."""
        for message in self._unframer.feed(data):
            self._on_message(message)

    def eof_received(self) -> bool:
        """The other end says no more; ours stays open until we close it. asyncio calls this."""
        self._ended.set()
        return self._keep_open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """The other end is gone; asyncio calls this."""
        self._ended.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, message: Json) -> None:
        """Send a message, with the others of this turn of the loop. Raises TypeError for one that is no JSON."""
        data = encode(message)
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.append(data)

    def flush(self) -> None:
        """Send what waits now."""
        if self._outgoing and not self._transport.is_closing():
            self._transport.write(frame(self._outgoing))
        self._outgoing = []

    def finish(self) -> None:
        """Say that no more will come, after what waits."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    async def ended(self) -> None:
        """Wait until the other end says no more."""
        await self._ended.wait()

    async def shut(self) -> None:
        """Send what waits, and close."""
        self.flush()
        self._transport.close()
        await self.closed

    def drop(self) -> None:
        """Close at once."""
        self._transport.abort()
