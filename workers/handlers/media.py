"""What is wrong with a prompt's media, and what a WAV file holds, found without trusting its header.

The standard library's `wave` stops at the first thing it does not know; a client needs to hear what was
found, so the few header fields are read here (Microsoft, "Multimedia Programming Interface": RIFF WAVE).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class MediaSubcode(IntEnum):
    """`resultInfo.subcode` of a 400: why a prompt cannot be played."""

    BAD_URI = 1101
    """Neither an http(s) address, a `file://` address nor a relative path."""
    NOT_ALLOWED = 1102
    """A host that is not on the list, or a path outside the media directory."""
    NOT_FOUND = 1103
    """There is nothing of that name."""
    UNREADABLE = 1104
    """It is there, but not a readable file; or its server refuses it or sends the request elsewhere."""
    TOO_LARGE = 1105
    """Over TRACKER_MEDIA_MAX_BYTES."""
    NOT_WAV = 1106
    """Not a RIFF WAVE file, or one whose header contradicts itself."""
    WRONG_FORMAT = 1107
    """A WAV file, but not PCM 16-bit mono 16 kHz."""
    TRUNCATED = 1108
    """Less sound than the header says."""
    EMPTY = 1109
    """No sound at all."""


class MediaError(Exception):
    """A prompt that cannot be played, whoever tries and how often. The text says what was found."""

    def __init__(self, subcode: MediaSubcode, finding: str) -> None:
        super().__init__(finding)
        self.subcode = subcode


PCM = 1
EXTENSIBLE = 0xFFFE
EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in the GUID of every sub-format that has one (KSDATAFORMAT_SUBTYPE_*)."""
ENCODINGS = {
    PCM: "PCM",
    0x0002: "Microsoft ADPCM",
    0x0003: "IEEE float",
    0x0006: "A-law",
    0x0007: "mu-law",
    0x0011: "IMA ADPCM",
    0x0031: "GSM 6.10",
    0x0055: "MP3",
}
FORMAT_BYTES = 16
EXTENSIBLE_BYTES = 40


@dataclass(frozen=True, slots=True)
class WavFormat:
    """The `fmt ` chunk: `tag` is the encoding's registered number, `rate` is in frames a second."""

    tag: int
    channels: int
    rate: int
    bits: int

    def __str__(self) -> str:
        encoding = ENCODINGS.get(self.tag, f"encoding 0x{self.tag:04x}")
        layout = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{encoding} {self.bits}-bit {layout} {self.rate / 1000:g} kHz"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame: a sample of every channel, each in whole bytes."""
        return self.channels * -(-self.bits // 8)


PLAYABLE = WavFormat(tag=PCM, channels=1, rate=16_000, bits=16)
"""What Graph demands of a prompt (documentation of `mediaInfo`, member `uri`)."""


def count_frames(wav: bytes) -> int:
    """Count the frames of a prompt that can be played.

    Raises MediaError for anything but whole PCM 16-bit mono 16 kHz with at least one frame.
    """
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise MediaError(MediaSubcode.NOT_WAV, f"expected a RIFF WAVE file, found one that begins {wav[:12]!r}")
    found, declared, held = _sound(wav)
    if found != PLAYABLE:
        raise MediaError(MediaSubcode.WRONG_FORMAT, f"expected {PLAYABLE}, found {found}")
    if held < declared or held % found.frame_bytes:
        raise MediaError(
            MediaSubcode.TRUNCATED,
            f"the file is cut off: {held} bytes of sound of the {declared} that its header says",
        )
    if held == 0:
        raise MediaError(MediaSubcode.EMPTY, "the file holds no sound")
    return held // found.frame_bytes


def _sound(wav: bytes) -> tuple[WavFormat, int, int]:
    """Return the format, the sound's size by its header and the bytes that are really there."""
    found = None
    for name, start, size in _chunks(wav):
        if name == b"fmt ":
            found = _format(wav[start : start + size])
        elif name == b"data" and found is not None:
            return found, size, min(size, len(wav) - start)
    raise MediaError(MediaSubcode.NOT_WAV, "the header is broken: no format chunk with sound after it")


def _chunks(wav: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk the chunks: name, where the content starts and the size its header says."""
    position = 12
    while position + 8 <= len(wav):
        name, size = struct.unpack_from("<4sI", wav, position)
        yield name, position + 8, size
        position += 8 + size + size % 2


def _format(chunk: bytes) -> WavFormat:
    if len(chunk) < FORMAT_BYTES:
        raise MediaError(MediaSubcode.NOT_WAV, f"the header is broken: a format chunk of {len(chunk)} bytes")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= EXTENSIBLE_BYTES and chunk[26:40] == EXTENSIBLE_TAIL:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    found = WavFormat(tag, channels, rate, bits)
    if tag == PCM and frame_bytes != found.frame_bytes:
        raise MediaError(MediaSubcode.NOT_WAV, f"the header is broken: {found} in frames of {frame_bytes} bytes")
    return found
