"""A limit for the framing of a body: the sizes and extensions of its chunks, and its trailers.

Chunk extensions have no meaning here, and the parser skips them without a limit. RFC 9112, 7.1.1, asks a server to
limit them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tracker.api.body_errors import BodyError

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

FREE: Final = 64 * 1024
"""How many bytes of a body's framing are always accepted."""
PER_BYTE: Final = 8
"""How many bytes may arrive for each byte of content beyond that. A chunk of one byte takes six."""


class BodyFraming:
    """Counts what arrives on a connection while a body is incomplete."""

    __slots__ = ("_body", "_received")

    def __init__(self) -> None:
        self._body: StreamReader | None = None
        self._received = 0

    def is_too_much(self, data: bytes, messages: Sequence[Any]) -> bool:
        """Note bytes that have arrived and were parsed. `messages` are the requests that wait, each with its body.

        Returns True when the newest body has too much framing. A read of this body raises BodyError then.
        """
        body = self._body
        newest: StreamReader | None = messages[-1][1] if messages else body
        if newest is None or newest.is_eof():
            self._body = None
            return False
        if newest is not body:
            self._body, self._received = newest, 0
            return False
        self._received += len(data)
        if self._received <= FREE + PER_BYTE * newest.total_bytes:
            return False
        newest.set_exception(BodyError("The body has too many bytes of chunk extensions for its content."))
        self._body = None
        return True

    def forget(self) -> None:
        """Let the body go, because the connection has ended."""
        self._body = None
