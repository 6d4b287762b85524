"""Decompression of bodies, up to a limit and in slices."""

import asyncio
import gzip
import zlib

import pytest

from tracker.api import content_encoding
from tracker.api.content_encoding import decompress, is_readable_encoding
from tracker.errors import Invalid, PayloadTooLarge

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("value", "readable"),
    [("", True), ("GZIP", True), ("x-gzip", True), ("deflate", True), ("br", False), ("gzip, gzip", False)],
)
def test_only_encodings_that_can_be_undone_are_taken(value: str, readable: bool) -> None:
    assert is_readable_encoding(value) is readable


async def test_a_body_at_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    assert await decompress(gzip.compress(b"x" * MIB), "gzip", most=MIB) == b"x" * MIB
    with pytest.raises(PayloadTooLarge):
        await decompress(gzip.compress(b"x" * (MIB + 1)), "gzip", most=MIB)


async def test_a_large_body_is_not_unpacked_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counting:
        def __init__(self, window: int) -> None:
            self._real = real(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            part = self._real.decompress(data, most)
            made.append(len(part))
            return part

        @property
        def unconsumed_tail(self) -> bytes:
            return self._real.unconsumed_tail

        @property
        def eof(self) -> bool:
            return self._real.eof

    real = zlib.decompressobj
    bomb = gzip.compress(b" " * (100 * MIB))
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(PayloadTooLarge):
        await decompress(bomb, "gzip", most=MIB)
    assert sum(made) <= MIB + content_encoding.SLICE
    assert max(made) <= content_encoding.SLICE


async def test_other_tasks_run_while_a_body_is_decompressed() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await decompress(gzip.compress(b"x" * MIB), "gzip", most=MIB)
    counting.cancel()
    assert turns >= MIB // content_encoding.SLICE


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"x", b"{}", b"\x1f\x8b", b"\x78\x9c", gzip.compress(b"{}", mtime=0)[:-4] + b"abcd"])
async def test_data_that_is_not_encoded_as_it_says_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(Invalid):
        await decompress(body, encoding, most=MIB)
