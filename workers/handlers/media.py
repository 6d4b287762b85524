"""A check of WAV files as they come in: whether they can be played, and how many frames they have.

The module reads the few header fields itself (Microsoft, "Multimedia Programming Interface": RIFF WAVE), and trusts no
size in the header. The standard library's `wave` raises at the first field that it does not know, and does not say what
it found. Clients need to know that.
"""

import struct
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
RIFF_HEAD = 12
CHUNK_HEAD = 8
"""How many bytes of a chunk come before its content: its name and the size of its content."""
MOST_CHUNKS = 1000
"""How many chunks come before the sound at most. A file of empty chunks would keep the event loop busy."""
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


class FrameCounter:
    """Counts the frames of a prompt that comes in pieces. It keeps none of the sound, so that any length needs no room.

    Both methods raise MediaError unless the prompt is a whole WAV file in PCM, 16-bit, mono, 16 kHz, with at least one
    frame.
    """

    def __init__(self) -> None:
        self._head = b""
        """Bytes that are needed together with later ones: the beginning of the file, of a chunk or of its content."""
        self._begun = False
        """Whether the beginning of the file has been checked."""
        self._skipped = 0
        """How many of the next bytes are left out."""
        self._format: WavFormat | None = None
        self._declared = self._held = 0
        """How many bytes of sound there are by the header, and how many have come."""
        self._in_sound = False
        self._chunks = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._in_sound:
            self._held += len(piece)
            return
        skipped = min(self._skipped, len(piece))
        self._skipped -= skipped
        self._head += piece[skipped:]
        while self._takes_head():
            pass

    def frames(self) -> int:
        """How many frames the prompt has, after the last piece."""
        if not self._begun:
            raise _not_riff(self._head)
        if not self._in_sound:
            self._check_cut_format()
            raise MediaError(MediaSubcode.NOT_WAV, "the header is broken: no format chunk with sound after it")
        held = min(self._declared, self._held)
        if self._format != PLAYABLE:
            raise MediaError(MediaSubcode.WRONG_FORMAT, f"expected {PLAYABLE}, found {self._format}")
        if held < self._declared or held % PLAYABLE.frame_bytes:
            raise MediaError(
                MediaSubcode.TRUNCATED,
                f"the file is cut off: {held} bytes of sound of the {self._declared} that its header says",
            )
        if held == 0:
            raise MediaError(MediaSubcode.EMPTY, "the file holds no sound")
        return held // PLAYABLE.frame_bytes

    def _takes_head(self) -> bool:
        """Read the next part of the header. Returns False after the header, and when its bytes have not come yet."""
        if self._skipped or self._in_sound:
            return False
        if not self._begun:
            return self._takes_beginning()
        if len(self._head) < CHUNK_HEAD:
            return False
        name, size = struct.unpack_from("<4sI", self._head)
        if name == b"data" and self._format is not None:
            self._declared, self._held, self._in_sound = size, len(self._head) - CHUNK_HEAD, True
            self._head = b""
            return True
        if name == b"fmt ":
            needed = min(size, EXTENSIBLE_BYTES)
            if len(self._head) < CHUNK_HEAD + needed:
                return False
            self._format = _format(self._head[CHUNK_HEAD : CHUNK_HEAD + needed])
        self._skip(CHUNK_HEAD + size + size % 2)
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise MediaError(MediaSubcode.NOT_WAV, f"the header is broken: more than {MOST_CHUNKS} chunks before sound")
        return True

    def _takes_beginning(self) -> bool:
        if len(self._head) < RIFF_HEAD:
            return False
        if self._head[:4] != b"RIFF" or self._head[8:12] != b"WAVE":
            raise _not_riff(self._head)
        self._begun = True
        self._skip(RIFF_HEAD)
        return True

    def _skip(self, number: int) -> None:
        """Leave out so many bytes, of which some may still come."""
        self._skipped = max(0, number - len(self._head))
        self._head = self._head[number:]

    def _check_cut_format(self) -> None:
        """Raise MediaError for a format chunk in which the file ends."""
        if self._head[:4] == b"fmt " and len(self._head) >= CHUNK_HEAD:
            _format(self._head[CHUNK_HEAD:])


def _not_riff(beginning: bytes) -> MediaError:
    return MediaError(MediaSubcode.NOT_WAV, f"expected a RIFF WAVE file, found one that begins {beginning[:12]!r}")


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
