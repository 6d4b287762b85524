"""The output of handlers, as a worker shows it to people: visible characters only, and set off from the log.

A handler may print what a client has sent. On the terminal of the worker, that must not look like a line of the log.
"""

import io
import sys
from typing import Final

from tracker import log
from tracker.visible_text import visible_lines

INDENT: Final = "    "
"""The beginning of each line of a handler's output. A line of the log begins at the margin."""


class HandlerOutput(io.TextIOWrapper):
    """A text stream for the standard output or the standard error of handlers, over the bytes of the worker's own."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=stream.line_buffering
        )
        self._stream = stream  # a stream that nobody holds closes its bytes
        self._at_margin = True

    def write(self, text: str) -> int:
        """Write a text. Other characters than tabs and line ends that nobody would see are escaped."""
        lines = visible_lines(text).splitlines(keepends=True)
        if lines:
            first = INDENT if self._at_margin else ""
            super().write(first + INDENT.join(lines))
            self._at_margin = lines[-1].endswith("\n")
        return len(text)


def set_off() -> None:
    """Set the output of this process off from the log, if the log is for people. Its loggers write as before."""
    if not log.is_for_people():
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, HandlerOutput(stream))
