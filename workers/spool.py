"""Where outcomes wait on disk while Redis is away, so that they outlive this process.

A file per worker in the spool directory, locked by its writer: a line of JSON for each outcome, in the words that its
script takes. A file that nobody holds is adopted by the next worker with this directory. What was written twice, or
meanwhile decided by another attempt, the fence refuses.

The first line of a file is `{"version": 1}`: the form of the lines after it. A file without this line is from before
files had a version, and its lines have the form of version 1. A worker leaves a file of another version where it is.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

log = structlog.get_logger()

SUFFIX = ".outcomes"
VERSION = 1
"""The form of an outcome's line: the words of one change, as `change.lua` takes them. When that script takes another
form, raise this number, and go on reading files of version 1.
"""
Words = Sequence[str]


class Spool:
    """Without a directory, nothing is kept. Raises nothing for a disk that does not take it: that is logged.

    Files are only appended to, and removed when all that is in them is written: a death at any moment loses nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._own: int | None = None
        self._held: dict[Path, int] = {}

    def keep(self, outcomes: Iterable[Words]) -> bool:
        """Hold these on disk too, until `clear`. Returns whether they are."""
        lines = [f"{json.dumps(list(words))}\n" for words in outcomes]
        if self._directory is None or not lines:
            return False
        try:
            if self._own is None:
                self._own = self._create(self._directory)
            # The first line end ends what an earlier write may have left unfinished on a full disk.
            _append(self._own, "".join(["\n", *lines]))
            os.fsync(self._own)
        except OSError as error:
            log.error("spool_failed", path=str(self._directory), reason=str(error))  # noqa: TRY400 - the reason says it all
            return False
        return True

    def adopt(self) -> list[Words]:
        """What workers that are gone have left; it stays on disk until `clear`.

        A file of a version that this worker does not know is logged, and stays on disk after `clear` too.
        """
        found: list[Words] = []
        if self._directory is None:
            return found
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            with suppress(OSError):  # another worker holds it, or was faster
                descriptor = _locked(os.open(path, os.O_RDONLY))
                try:
                    data = path.read_bytes()
                except OSError:
                    os.close(descriptor)
                    raise
                if (version := _version(data)) != VERSION:
                    os.close(descriptor)
                    log.error("spool_version_unknown", path=str(path), version=version, known=VERSION)
                    continue
                self._held[path] = descriptor
                outcomes = [words for line in data.splitlines() if (words := _read(line)) is not None]
                log.warning("spool_adopted", path=str(path), outcomes=len(outcomes))
                found += outcomes
        return found

    def clear(self) -> None:
        """Forget what was kept or adopted: it is written."""
        for path, descriptor in self._held.items():
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)
        self._held, self._own = {}, None

    def _create(self, directory: Path) -> int:
        """A new file of ours, with its version. Raises OSError, and leaves no file then."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{uuid4().hex}{SUFFIX}"
        descriptor = _locked(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _append(descriptor, f"{json.dumps({'version': VERSION})}\n")
        except OSError:
            path.unlink()
            os.close(descriptor)
            raise
        self._held[path] = descriptor
        return descriptor


def _locked(descriptor: int) -> int:
    """The file, held for this process alone. Raises OSError when another holds it, or has done with it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _append(descriptor: int, text: str) -> None:
    """Write all of the text. Raises OSError when only a part of it has room."""
    data = text.encode()
    if os.write(descriptor, data) < len(data):
        raise OSError("the disk is full")


def _version(data: bytes) -> Any:
    """The version that a file names. A file without one is read as version 1."""
    try:
        header = json.loads(data.partition(b"\n")[0])
    except ValueError:
        return VERSION
    return header.get("version") if isinstance(header, dict) else VERSION


def _read(line: bytes) -> Words | None:
    """An outcome; None for a line that a death or a full disk has cut off."""
    try:
        words = json.loads(line)
    except ValueError:
        return None
    return words if isinstance(words, list) and words and all(isinstance(word, str) for word in words) else None
