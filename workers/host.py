"""A host as its manager sees it: a process that runs handlers."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tracker.domain.operation import Json
from workers.frames import Line

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of `ru_maxrss`."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class HostKind(StrEnum):
    """What a host runs."""

    COROUTINE = "coroutines"
    """Many coroutine handlers at once, on one loop."""
    FUNCTION = "functions"
    """Plain functions, one at a time."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a host ended. `code` is an exit code, or a signal as its negative number; `peak_rss` is in bytes."""

    pid: int
    code: int
    peak_rss: int
    asked: bool
    """Whether we had killed it, or told it to finish."""


class Host:
    """Takes orders and gives messages; see `runner` for both. `died` is resolved when all its messages are in."""

    def __init__(self, kind: HostKind, pid: int, line: Line, kill: Callable[[int], None]) -> None:
        self.kind, self.pid = kind, pid
        self._line, self._kill = line, kill
        self._asked = False
        self.died: asyncio.Future[Death] = asyncio.get_running_loop().create_future()

    def send(self, order: Json) -> None:
        """Have it run an attempt."""
        self._line.send(order)

    def stop(self, ref: int) -> None:
        """Ask one attempt to stop; one that has ended already is left alone."""
        self._line.send({"stop": ref})

    def kill(self) -> None:
        """End it and whatever its handlers have started, now."""
        self._asked = True
        self._kill(self.pid)

    def finish(self) -> None:
        """Give it no more orders; it ends when it has done those it has."""
        self._asked = True
        self._line.finish()

    def rss(self) -> int:
        """Bytes of memory that it takes now; 0 where that is not known."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    async def gone(self, code: int, peak_rss: int) -> None:
        """It has ended: take its last messages, and tell. What it left behind may hold the line: not for long."""
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._line.closed), 1)
        finally:
            self._line.drop()
        if not self.died.done():
            self.died.set_result(Death(self.pid, code, peak_rss, self._asked))
