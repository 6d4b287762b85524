"""Media files of prompts: their formats, and which files and servers may be read."""

import asyncio
import io
import os
import socket
import struct
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.config import Settings
from workers.handlers import sources
from workers.handlers.media import EXTENSIBLE_TAIL, MOST_CHUNKS, FrameCounter, MediaError, MediaSubcode

ROOT = Path(__file__).parents[4]


def wav(frames: int = 1600, *, rate: int = 16_000, channels: int = 1, sample_bytes: int = 2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, sample_bytes, rate, 0, "NONE", ""))
        file.writeframes(bytes(frames * channels * sample_bytes))
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def fmt(tag: int = 1, channels: int = 1, rate: int = 16_000, frame_bytes: int = 2, bits: int = 16) -> bytes:
    return struct.pack("<HHIIHH", tag, channels, rate, rate * frame_bytes, frame_bytes, bits)


def count_frames(media: bytes, *, at_once: int = 2**20) -> int:
    """Count the frames of media that comes in pieces of so many bytes."""
    counter = FrameCounter()
    for start in range(0, len(media), at_once):
        counter.feed(media[start : start + at_once])
    return counter.frames()


def refusal(run: Callable[[], object]) -> tuple[MediaSubcode, str]:
    with pytest.raises(MediaError) as refused:
        run()
    return refused.value.subcode, str(refused.value)


def test_the_demo_prompt_is_three_seconds_of_playable_sound() -> None:
    assert count_frames((ROOT / "examples/media/welcome.wav").read_bytes()) == 48_000


def test_other_chunks_around_the_sound_are_stepped_over() -> None:
    odd = chunk(b"LIST", b"odd")
    assert count_frames(riff(odd, chunk(b"fmt ", fmt()), odd, chunk(b"data", bytes(20)), odd)) == 10


def test_the_extensible_form_of_pcm_is_pcm() -> None:
    extension = struct.pack("<HHIH", 22, 16, 4, 1) + EXTENSIBLE_TAIL
    assert count_frames(riff(chunk(b"fmt ", fmt(tag=0xFFFE) + extension), chunk(b"data", bytes(2)))) == 1


@pytest.mark.parametrize(
    ("found", "media"),
    [
        ("PCM 16-bit stereo 44.1 kHz", wav(rate=44_100, channels=2)),
        ("PCM 16-bit mono 8 kHz", wav(rate=8_000)),
        ("PCM 8-bit mono 16 kHz", wav(sample_bytes=1)),
        ("PCM 16-bit 6 channels 16 kHz", wav(channels=6)),
        ("IEEE float 32-bit mono 16 kHz", riff(chunk(b"fmt ", fmt(3, 1, 16_000, 4, 32)), chunk(b"data", bytes(4)))),
        ("PCM 12-bit mono 16 kHz", riff(chunk(b"fmt ", fmt(bits=12)), chunk(b"data", bytes(4)))),
        ("mu-law 8-bit mono 8 kHz", riff(chunk(b"fmt ", fmt(7, 1, 8_000, 1, 8)), chunk(b"data", bytes(4)))),
        ("encoding 0x1234 16-bit mono 16 kHz", riff(chunk(b"fmt ", fmt(0x1234)), chunk(b"data", bytes(4)))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_format_is_named_as_found(found: str, media: bytes) -> None:
    expected = f"expected PCM 16-bit mono 16 kHz, found {found}"
    assert refusal(lambda: count_frames(media)) == (MediaSubcode.WRONG_FORMAT, expected)


@pytest.mark.parametrize(
    ("subcode", "media"),
    [
        (MediaSubcode.NOT_WAV, b""),
        (MediaSubcode.NOT_WAV, b"ID3\x04 an MP3, whatever its name says"),
        (MediaSubcode.NOT_WAV, b"RIFX" + wav()[4:]),
        (MediaSubcode.NOT_WAV, wav()[:20]),
        (MediaSubcode.NOT_WAV, wav()[:40]),
        (MediaSubcode.NOT_WAV, riff(chunk(b"fmt ", fmt()[:14]), chunk(b"data", bytes(4)))),
        (MediaSubcode.NOT_WAV, riff(chunk(b"data", bytes(4)), chunk(b"fmt ", fmt()))),
        (MediaSubcode.NOT_WAV, riff(chunk(b"fmt ", fmt(frame_bytes=0)), chunk(b"data", bytes(4)))),
        (MediaSubcode.TRUNCATED, wav()[:-100]),
        (MediaSubcode.TRUNCATED, riff(chunk(b"fmt ", fmt()), chunk(b"data", bytes(3)))),
        (MediaSubcode.EMPTY, wav(frames=0)),
    ],
)
def test_broken_media_has_a_subcode_for_its_cause(subcode: MediaSubcode, media: bytes) -> None:
    assert refusal(lambda: count_frames(media))[0] is subcode


def test_the_error_for_a_truncated_file_has_both_sizes() -> None:
    message = refusal(lambda: count_frames(wav(frames=1600)[:-1200]))[1]
    assert "2000 bytes of sound of the 3200" in message


@pytest.mark.parametrize("at_once", [1, 2, 7, 8, 43, 44, 45, 1000])
def test_the_pieces_in_which_a_prompt_comes_do_not_matter(at_once: int) -> None:
    odd = chunk(b"LIST", b"odd" * 99)
    media = riff(odd, chunk(b"fmt ", fmt()), odd, chunk(b"data", bytes(2000)), odd)
    assert count_frames(media, at_once=at_once) == 1000
    assert refusal(lambda: count_frames(wav()[:-100], at_once=at_once)) == refusal(lambda: count_frames(wav()[:-100]))


def test_a_prompt_of_many_megabytes_is_counted_without_keeping_it() -> None:
    counter = FrameCounter()
    counter.feed(riff(chunk(b"fmt ", fmt())) + b"data" + struct.pack("<I", 2**28))
    piece = bytes(2**16)
    tracemalloc.start()
    try:
        for _ in range(2**12):
            counter.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()
    assert counter.frames() == 2**27


def test_a_file_of_empty_chunks_is_refused_early() -> None:
    media = riff(*[chunk(b"none", b"")] * (MOST_CHUNKS + 1))
    assert refusal(lambda: count_frames(media))[0] is MediaSubcode.NOT_WAV


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: wav()[:44][: 44 - len(tail)] + tail))
def test_no_bytes_are_anything_but_counted_or_refused(media: bytes) -> None:
    try:
        frames = count_frames(media)
    except MediaError:
        return
    assert frames > 0


@pytest.fixture
def media_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "media"
    (directory / "sub").mkdir(parents=True)
    (directory / "a b.wav").write_bytes(b"inside")
    (tmp_path / "secret.wav").write_bytes(b"outside")
    (tmp_path / "media-too").mkdir()
    (tmp_path / "media-too" / "c.wav").write_bytes(b"outside")
    return directory


def read(uri: str, media_dir: Path | None, **settings: Any) -> bytes:
    pieces: list[bytes] = []
    asyncio.run(sources.read(uri, Settings(media_dir=media_dir, **settings), pieces.append))
    assert all(len(piece) <= sources.CHUNK_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize(
    "form", ["a b.wav", "a%20b.wav", "file://{}/a%20b.wav", "file://localhost{}/a b.wav", "{}/a b.wav"]
)
def test_a_file_below_the_media_directory_is_read(media_dir: Path, form: str) -> None:
    assert read(form.format(media_dir), media_dir) == b"inside"


def test_a_link_that_stays_inside_is_followed(media_dir: Path) -> None:
    (media_dir / "sub" / "link.wav").symlink_to("../a b.wav")
    assert read("sub/link.wav", media_dir) == b"inside"


def test_the_media_directory_itself_may_be_a_link(media_dir: Path) -> None:
    (media_dir.parent / "link").symlink_to(media_dir)
    assert read("a b.wav", media_dir.parent / "link") == b"inside"


OUTSIDE = [
    "../{}",
    "%2e%2e/{}",
    "..%2f{}",
    "sub/../../{}",
    "file://{root}/../{}",
    "{up}/{}",
    "file://{up}/{}",
    "link/{}",
]


@pytest.mark.parametrize("form", OUTSIDE)
def test_what_is_outside_is_refused_alike_whether_it_exists_or_not(media_dir: Path, form: str) -> None:
    (media_dir / "link").symlink_to(media_dir.parent)
    (media_dir.parent / "circle.wav").symlink_to("circle.wav")
    refusals = [
        refusal(lambda name=name: read(form.format(name, root=media_dir, up=media_dir.parent), media_dir))  # type: ignore[misc]
        for name in ("secret.wav", "missing.wav", "media-too/c.wav", "secret.wav/x", "circle.wav")
    ]
    assert set(refusals) == {(MediaSubcode.NOT_ALLOWED, "the path leads out of the media directory")}


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/a.wav", "data:audio/wav;base64,AAAA", "file://elsewhere/a.wav", "//elsewhere/a.wav", "a.wav?x=1",
        "a.wav#t=1", "a%00b.wav", "a%ff.wav", "a\nb.wav", "http://[::1/a.wav", "http://h:99999/a.wav", "http:///a.wav",
        "https://user:password@host/a.wav", "file://", "?",
    ],
)  # fmt: skip
def test_a_uri_of_no_use_is_refused_as_such(media_dir: Path, uri: str) -> None:
    assert refusal(lambda: read(uri, media_dir, media_hosts=("host",)))[0] is MediaSubcode.BAD_URI


def test_a_missing_file_is_not_found(media_dir: Path) -> None:
    for uri in ("missing.wav", "a b.wav/x", "sub/missing/x.wav"):
        assert refusal(lambda uri=uri: read(uri, media_dir))[0] is MediaSubcode.NOT_FOUND  # type: ignore[misc]


def test_what_is_no_regular_file_is_refused_without_waiting(media_dir: Path) -> None:
    os.mkfifo(media_dir / "fifo.wav")
    (media_dir / "circle.wav").symlink_to("circle.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(media_dir / "s.wav"))
        for uri in ("fifo.wav", "sub", ".", "circle.wav", "s.wav", "x" * 300):
            assert refusal(lambda uri=uri: read(uri, media_dir))[0] is MediaSubcode.UNREADABLE  # type: ignore[misc]


def test_a_file_is_read_up_to_the_cap_and_not_over_it(media_dir: Path) -> None:
    assert read("a b.wav", media_dir, media_max_bytes=6) == b"inside"
    assert refusal(lambda: read("a b.wav", media_dir, media_max_bytes=5)) == (
        MediaSubcode.TOO_LARGE,
        "more than the 5 bytes that are allowed",
    )


def test_without_a_media_directory_no_file_is_read() -> None:
    assert refusal(lambda: read("a.wav", None))[0] is MediaSubcode.NOT_ALLOWED


@pytest.mark.parametrize(
    ("uri", "hosts"),
    [
        ("http://evil/a.wav", ("good",)), ("http://good:81/a.wav", ("good",)), ("http://good/a.wav", ("good:81",)),
        ("http://good.evil/a.wav", ("good",)), ("https://good/a.wav", ("good:80",)), ("http://good/a.wav", ()),
    ],
)  # fmt: skip
def test_a_host_that_is_not_listed_is_refused(uri: str, hosts: tuple[str, ...]) -> None:
    assert refusal(lambda: read(uri, None, media_hosts=hosts))[0] is MediaSubcode.NOT_ALLOWED


def test_messages_show_a_uri_without_its_secrets() -> None:
    assert sources.shown("https://name:pass@host/a.wav?signature=secret#x") == "https://host/a.wav"
    assert sources.shown("a\nb" + "x" * 300) == "a\N{REPLACEMENT CHARACTER}b" + "x" * 197 + "…"


@pytest.mark.parametrize("credentials", ["user:p@ss@", "user@corp:secret@", ":@@"])
def test_messages_show_nothing_of_credentials_that_hold_an_at_sign(credentials: str) -> None:
    assert sources.shown(f"http://{credentials}host/a@b.wav") == "http://host/a@b.wav"
