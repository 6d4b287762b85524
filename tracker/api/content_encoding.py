"""Decompression of request bodies (RFC 9110, 8.4.1), after the request is authenticated, in slices and up to a limit.

aiohttp would decompress each body while it arrives, before a handler runs. Then a client without a token could keep the
event loop busy with a small body that is large decompressed.
"""

import asyncio
import zlib
from typing import Final

from tracker.errors import Invalid, PayloadTooLarge

ENCODING_NEEDED: Final = "Content-Encoding must be gzip, deflate or identity."
SLICE: Final = 64 * 1024
"""How many bytes are made at once at most, before other requests have their turn. That takes 0.2 ms."""

MEMBERS: Final = 16
"""How many members a body has at most, one after another (RFC 1952, 2.2). Each member costs a copy of what follows."""

_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_DEFLATE: Final = "deflate"
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_METHOD_BITS: Final = 0x0F
_METHOD: Final = 8
"""The compression method of the zlib format, in the lowest bits of its first byte (RFC 1950, 2.2)."""


def is_readable_encoding(content_encoding: str) -> bool:
    """Whether a Content-Encoding is one that `decompress` reads."""
    return _name_of(content_encoding) in _IDENTITY | _GZIP | {_DEFLATE}


async def decompress(body: bytes, content_encoding: str, *, most: int) -> bytes:
    """Decompress a body of a readable encoding, which may have `most` bytes then. No encoding leaves it as it is.

    Raises Invalid if the body is not encoded as it says, and PayloadTooLarge.
    """
    encoding = _name_of(content_encoding)
    if encoding in _IDENTITY or not body:
        return body
    window = _GZIP_FORMAT if encoding in _GZIP else _window_of_deflate(body)
    parts: list[bytes] = []
    try:
        for _ in range(MEMBERS):
            body = await _decompress_member(body, window, parts, most)
            if not body:
                return b"".join(parts)
    except zlib.error:
        raise Invalid("The body is not encoded as its Content-Encoding says.") from None
    raise Invalid(f"The body has more than {MEMBERS} compressed members.")


async def _decompress_member(body: bytes, window: int, parts: list[bytes], most: int) -> bytes:
    """Decompress the first member of a body, and add what it holds to `parts`. Returns the bytes after it."""
    member = zlib.decompressobj(window)
    while not member.eof:
        part = member.decompress(body, SLICE)
        body = member.unconsumed_tail
        if not part and not body and not member.eof:
            raise Invalid("The body ended early.")
        parts.append(part)
        if sum(map(len, parts)) > most:
            raise PayloadTooLarge(f"The body has more than {most} bytes after decompression.")
        await asyncio.sleep(0)
    return member.unused_data


def _name_of(content_encoding: str) -> str:
    return content_encoding.strip().lower()


def _window_of_deflate(body: bytes) -> int:
    """The format of a `deflate` body: that of zlib, as RFC 9110 demands, or the bare data that some clients send."""
    return zlib.MAX_WBITS if body[0] & _METHOD_BITS == _METHOD else -zlib.MAX_WBITS
