"""The spool: files on disk for outcomes that cannot be written to Redis yet, so that they outlive the worker.

Each worker has one file in the spool directory, and holds a lock on it. After the death of the worker the next worker
with this directory adopts the file and writes its outcomes. Some of them may be in Redis already, or another attempt
may have ended the operation by then. Then the fence of the script refuses them.

An outcome that Redis cannot store, though it stores others, is in a file of its own whose name ends with `.aside`. A
worker adopts it after its name was changed to end with `.outcomes`.

A file has one line of JSON for each outcome: the change, as arguments of its script. The first line names the form of
the others: `{"version": 1}`. A file without that line was written before files had a version, and its lines have the
form of version 1. A worker does not touch a file of another version.
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
ASIDE_SUFFIX = ".aside"
"""The end of the name of a file with one outcome that Redis could not store."""
VERSION = 1
"""The form of the lines: the arguments that `change.lua` takes for one change.

To change them, raise this number and go on reading files of version 1.
"""
PackedChange = Sequence[str]
"""A change as `tracker.store.store.pack` makes it."""


class Spool:
    """The spool of one worker. Without a directory it keeps nothing.

    A file is only appended to, and removed when all its outcomes are written, so a death at any moment loses none of
    them. Errors of the disk are logged and not raised.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._own: int | None = None
        self._held: dict[Path, int] = {}

    def keep(self, changes: Iterable[PackedChange]) -> bool:
        """Write changes to the worker's file. Returns whether they are on disk."""
        lines = [f"{json.dumps(list(change))}\n" for change in changes]
        if self._directory is None or not lines:
            return False
        try:
            if self._own is None:
                self._own = self._create(self._directory)
            # An earlier write may have left an unfinished line when the disk was full. The first line end ends it.
            _append(self._own, "".join(["\n", *lines]))
            os.fsync(self._own)
        except OSError as error:
            log.error("spool_failed", path=str(self._directory), reason=str(error))  # noqa: TRY400 - the reason says it all
            return False
        return True

    def adopt(self) -> list[PackedChange]:
        """Take over the files of dead workers, and return their changes. The files stay on disk until `clear`.

        A file of an unknown version is logged, and stays on disk after `clear` too.
        """
        found: list[PackedChange] = []
        if self._directory is None:
            return found
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            with suppress(OSError):  # its worker lives, or another worker has adopted it
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
                changes = [change for line in data.splitlines() if (change := _read(line)) is not None]
                log.warning("spool_adopted", path=str(path), outcomes=len(changes))
                found += changes
        return found

    def clear(self) -> None:
        """Remove the worker's own file and those it has adopted. Call this when all their changes are written."""
        for path, descriptor in self._held.items():
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)
        self._held, self._own = {}, None

    def set_aside(self, change: PackedChange) -> Path | None:
        """Write a change that Redis cannot store to a file of its own. No worker adopts it, until it is renamed.

        Returns the path, or None if it is not on disk.
        """
        if self._directory is None:
            return None
        path = self._directory / f"{uuid4().hex}{ASIDE_SUFFIX}"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _append(descriptor, f"{json.dumps({'version': VERSION})}\n{json.dumps(list(change))}\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("spool_failed", path=str(path), reason=str(error))  # noqa: TRY400 - the reason says it all
            return None
        return path

    def _create(self, directory: Path) -> int:
        """Create the worker's own file, with its version. Raises OSError, and then leaves no file."""
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
    """Lock a file for this process. Raises OSError when another process holds the lock or has removed the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _append(descriptor: int, text: str) -> None:
    """Write the whole text. Raises OSError when the disk takes only a part of it."""
    data = text.encode()
    if os.write(descriptor, data) < len(data):
        raise OSError("the disk is full")


def _version(data: bytes) -> Any:
    """The version that a file names; 1 for a file that names none."""
    try:
        header = json.loads(data.partition(b"\n")[0])
    except ValueError:
        return VERSION
    return header.get("version") if isinstance(header, dict) else VERSION


def _read(line: bytes) -> PackedChange | None:
    """The change on a line; None for the version, and for a line that a death or a full disk has cut off."""
    try:
        change = json.loads(line)
    except ValueError:
        return None
    return change if isinstance(change, list) and change and all(isinstance(part, str) for part in change) else None
