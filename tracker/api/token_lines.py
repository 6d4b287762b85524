"""The lines that configure tokens, from TRACKER_TOKENS and from the file TRACKER_TOKENS_FILE."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.service import Caller

_NAME: Final = re.compile(r"[A-Za-z0-9._~@-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


class FileState(NamedTuple):
    """The state of a file, which changes whenever it is replaced, written, or made readable. All parts 0: no file."""

    device: int = 0
    inode: int = 0
    size: int = 0
    written: int = 0
    changed: int = 0

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The present state of a file, or of the file that a symbolic link leads to."""
        try:
            return cls._from(path.stat())
        except OSError:
            return cls()

    @classmethod
    def of_open(cls, descriptor: int) -> "FileState":
        """The present state of an open file."""
        return cls._from(os.fstat(descriptor))

    @classmethod
    def _from(cls, found: os.stat_result) -> "FileState":
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_callers(settings: Settings, text_of_file: str) -> Mapping[str, Caller]:
    """The callers by the hash of their token.

    Raises ConfigurationError for a malformed line, and for a token of two callers. It names the line's position only.
    """
    by_hash: dict[str, Caller] = {}
    for position, digest, caller in _lines(settings, text_of_file):
        if by_hash.setdefault(digest, caller) != caller:
            raise ConfigurationError(f"{position} gives {caller.name} the token of {by_hash[digest].name}")
    return by_hash


def text_of(path: Path) -> str:
    """The text of the file of tokens, which may be a pipe. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def text_and_state(path: Path) -> tuple[str, FileState] | None:
    """The text of a regular file and its state; None if somebody wrote the file while it was read.

    Raises ConfigurationError for a file that is missing, unreadable, or no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
        with os.fdopen(descriptor, encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigurationError(f"{path} is not a regular file")
            before = FileState.of_open(descriptor)
            text = file.read()
            if FileState.of_open(descriptor) != before:
                return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    return text, before


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else f"byte {error.start} is not UTF-8"
    return ConfigurationError(f"TRACKER_TOKENS_FILE: {path} cannot be read: {reason}")


def _lines(settings: Settings, text_of_file: str) -> Iterator[tuple[str, str, Caller]]:
    """Position, hash and caller of every line. Raises ConfigurationError for a malformed line, without quoting it."""
    for source, text in (("TRACKER_TOKENS", settings.tokens), (str(settings.tokens_file), text_of_file)):
        for number, line in enumerate(text.splitlines(), start=1):
            entry = line.strip()
            if entry and not entry.startswith("#"):
                position = f"{source}, line {number}"
                yield position, *_parse(entry, position)


def _parse(entry: str, position: str) -> tuple[str, Caller]:
    match entry.split(":"):
        case [name, tenant, digest] if _NAME.fullmatch(name) and _NAME.fullmatch(tenant) and _HASH.fullmatch(digest):
            return digest.lower(), Caller(name=name, tenant=tenant)
        case _:
            raise ConfigurationError(f"{position} is not of the form name:tenant:sha256-of-token")
