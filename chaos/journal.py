"""Files of JSON lines that several processes append to, and what is found in them. Times are CLOCK_MONOTONIC's."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EFFECTS = "effects.jsonl"
"""What handlers did: the start of every attempt, and its end if it came to that."""
EVENTS = "events.jsonl"
"""What was done to the processes, and when they were started."""
ANSWERS = "answers.jsonl"
"""What clients asked for and were told."""


class Journal:
    """Each entry is one write to a file opened for appending, so that the lines of several processes do not mix."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **entry: Any) -> None:
        """Append one line. It outlives this process, not the machine."""
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a journal, none if there is no such file."""
    if path.exists():
        with path.open() as lines:
            yield from map(json.loads, lines)
