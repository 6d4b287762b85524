"""A check of WAV files: whether they can be played, and how many frames they have.

The module reads the few header fields itself (Microsoft, "Multimedia Programming Interface": RIFF WAVE), and trusts no
size in the header. The standard library's `wave` raises at the first field that it does not know, and does not say what
it found. Clients need to know that.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class MediaSubcode(IntEnum):
    """Why a prompt cannot be played: the `resultInfo.subcode` of a 400."""

    BAD_URI = 1101
    """Neither an http(s) address, a `file://` address nor a relative path."""
    NOT_ALLOWED = 1102
    """The host is not on the list of allowed hosts, or the path is outside the media directory."""
    NOT_FOUND = 1103
    """There is no file of that name."""
    UNREADABLE = 1104
    """The file is not regular or cannot be read, or the server refuses the request or redirects it elsewhere."""
    TOO_LARGE = 1105
    """More bytes than TRACKER_MEDIA_MAX_BYTES."""
    NOT_WAV = 1106
    """Not a RIFF WAVE file, or one whose header contradicts itself."""
    WRONG_FORMAT = 1107
    """A WAV file, but not PCM 16-bit mono 16 kHz."""
    TRUNCATED = 1108
    """Less sound than the header says."""
    EMPTY = 1109
    """No sound at all."""


class MediaError(Exception):
    """The prompt cannot be played, and another attempt would not help. The text says what was found."""

    def __init__(self, subcode: MediaSubcode, finding: str) -> None:
        super().__init__(finding)
        self.subcode = subcode


PCM = 1
EXTENSIBLE = 0xFFFE
EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""The bytes after the format tag in the GUID of a sub-format (KSDATAFORMAT_SUBTYPE_*)."""
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
    """The `fmt ` chunk. `tag` is the registered number of the encoding, `rate` is in frames per second."""

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
        """Bytes of one frame, which is one sample of each channel. A sample takes whole bytes."""
        return self.channels * -(-self.bits // 8)


PLAYABLE = WavFormat(tag=PCM, channels=1, rate=16_000, bits=16)
"""The only format that Graph allows for a prompt (its documentation of `mediaInfo`, member `uri`)."""


def count_frames(wav: bytes) -> int:
    """Count the frames of a prompt.

    Raises MediaError unless it is a whole WAV file in PCM, 16-bit, mono, 16 kHz, with at least one frame.
    """
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise MediaError(MediaSubcode.NOT_WAV, f"expected a RIFF WAVE file, found one that begins {wav[:12]!r}")
    found, declared, held = _find_sound(wav)
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


def _find_sound(wav: bytes) -> tuple[WavFormat, int, int]:
    """Return the format, the size of the sound as its header says, and how many bytes of it are there."""
    found = None
    for name, start, size in _chunks(wav):
        if name == b"fmt ":
            found = _format(wav[start : start + size])
        elif name == b"data" and found is not None:
            return found, size, min(size, len(wav) - start)
    raise MediaError(MediaSubcode.NOT_WAV, "the header is broken: no format chunk with sound after it")


def _chunks(wav: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks: the name, where the content starts, and its size as the header says."""
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
