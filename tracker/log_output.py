"""Output of log lines that never waits for whoever reads the log.

The reader of a log can stop: a pipe is full, a log driver hangs, Ctrl-S stops a terminal. A process that waits then
renews no lease and answers no request. So lines that the reader does not take wait in memory, KEPT_BYTES at most, and
further lines are dropped and counted.
"""

import asyncio
import logging
import os
import select
import stat
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import WeakSet, finalize

KEPT_BYTES: Final = 1024 * 1024
"""How many bytes of lines wait for the reader at most. Further lines are dropped."""
DRAIN_INTERVAL: Final = 0.25
"""Seconds between two attempts to write the lines that wait."""
LAST_WAIT: Final = 1.0
"""The longest time that a process which ends waits for the reader of its last lines, in seconds."""

_outputs: WeakSet["LogOutput"] = WeakSet()


class LogOutput:
    """Writes lines to a file descriptor without waiting. It is not safe for several threads.

    A pipe or a terminal is opened once more in non-blocking mode. The mode of the given descriptor stays as it is,
    because other processes share it. `on_dropped` is called with the number of dropped lines after all other lines are
    written.
    """

    def __init__(self, fd: int, *, on_dropped: Callable[[int], None], keep: int = KEPT_BYTES) -> None:
        self._fd, self._on_dropped, self._keep = fd, on_dropped, keep
        self._waiting = bytearray()
        self._dropped = 0
        mode = os.fstat(fd).st_mode
        self._may_block = not stat.S_ISREG(mode)
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            with suppress(OSError):  # another user may own the pipe
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                self._may_block = False
                finalize(self, os.close, self._fd).atexit = False
        _outputs.add(self)

    @property
    def waits(self) -> bool:
        """Whether lines wait for the reader, or dropped lines are to be reported."""
        return bool(self._waiting or self._dropped)

    def write(self, line: bytes) -> None:
        """Write a line, with its line end. It waits, or is dropped, if the reader does not take it now."""
        if self.waits:
            self.drain()
        begun = 0 if self._waiting else self._send(line)
        line = line[begun:]
        if begun or len(self._waiting) + len(line) <= self._keep:
            self._waiting += line
        else:
            self._dropped += 1

    def drain(self) -> None:
        """Write lines that wait, as far as the reader takes them. Then report how many were dropped."""
        while self._waiting and (sent := self._send(self._whole_lines())):
            del self._waiting[:sent]
        if self._dropped and not self._waiting:
            dropped, self._dropped = self._dropped, 0
            self._on_dropped(dropped)

    def _whole_lines(self) -> bytearray:
        """The first lines that wait, as far as one write is not mixed with those of other processes (pipe(7))."""
        piece = self._waiting[: select.PIPE_BUF]
        return piece[: piece.rfind(b"\n") + 1] or piece

    def flush(self, seconds: float = LAST_WAIT) -> None:
        """Write lines that wait, and wait for the reader so long at most."""
        until = time.monotonic() + seconds
        self.drain()
        while self._waiting and (left := until - time.monotonic()) > 0:
            self._is_ready(left)
            self.drain()

    def forget(self) -> None:
        """Forget lines that wait: in a forked process they are those of its parent."""
        self._waiting.clear()
        self._dropped = 0

    def _send(self, data: bytes | bytearray) -> int:
        """How many bytes are written, or lost because nobody can read them. It is 0 while the reader takes none."""
        if self._may_block:  # a write of PIPE_BUF bytes does not block when the descriptor is ready
            data = data[: select.PIPE_BUF]
            if not self._is_ready(0.0):
                return 0
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # the reader is gone, or the disk is full
            self._dropped += max(1, data.count(b"\n"))
            return len(data)

    def _is_ready(self, seconds: float) -> bool:
        """Whether a write would return at once. Waits so long for that at most."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


class LogHandler(logging.Handler):
    """Writes log records to standard error, without waiting for its reader.

    In an event loop, lines that wait are written as soon as the reader takes them. Elsewhere they are written before
    the next line, and at the end of the process.
    """

    def __init__(self, on_dropped: Callable[[int], None]) -> None:
        super().__init__()
        self._output = LogOutput(sys.stderr.fileno(), on_dropped=on_dropped)
        self._encoding = sys.stderr.encoding
        self._trying_on: asyncio.AbstractEventLoop | None = None
        """The event loop that will try again to write lines that wait."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or the error if it has no text."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - the log must not end what is logged
            text = traceback.format_exc()
        self._write(text)

    def relay(self, line: str) -> None:
        """Write a line of another process as it is."""
        self.acquire()
        try:
            self._write(line)
        finally:
            self.release()

    def drain(self) -> None:
        """Write lines that wait for the reader, as far as it takes them."""
        self.acquire()
        try:
            self._output.drain()
            self._try_again_later()
        finally:
            self.release()

    def flush(self) -> None:
        """Write lines that wait, and wait for the reader for a moment. Python calls this when the process ends."""
        self._output.flush()

    def _write(self, text: str) -> None:
        self._output.write(f"{text}\n".encode(self._encoding, "backslashreplace"))
        self._try_again_later()

    def _try_again_later(self) -> None:
        if not self._output.waits:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._trying_on is not loop:
            self._trying_on = loop
            loop.call_later(DRAIN_INTERVAL, self._try_again)

    def _try_again(self) -> None:
        self._trying_on = None
        self.drain()


def drain_all() -> None:
    """Write the lines that wait, before this process ends in a way that Python does not see."""
    for output in list(_outputs):
        output.drain()


def _forget_all() -> None:
    for output in list(_outputs):
        output.forget()


os.register_at_fork(after_in_child=_forget_all)
