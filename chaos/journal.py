"""Journals: files of JSON lines to which several processes append. Times are CLOCK_MONOTONIC's, in seconds."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EFFECTS = "effects.jsonl"
"""Journal of the handlers: the start of every attempt, and its end unless the handler was killed."""
EVENTS = "events.jsonl"
"""Journal of the processes: every start of a process, and every fault."""
ANSWERS = "answers.jsonl"
"""Journal of the clients: requests to cancel or delete, and the answers."""


class Journal:
    """A file of entries, one a line.

    Each entry is one write(2) to a file opened with O_APPEND, so the lines of several processes do not mix.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **entry: Any) -> None:
        """Append one line. The line survives this process, but not a crash of the machine: there is no fsync."""
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a journal; none if the file does not exist."""
    if path.exists():
        with path.open() as lines:
            yield from map(json.loads, lines)
