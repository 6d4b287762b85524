"""A host as its manager sees it: a process that runs handlers."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from workers.connection import HostConnection
from workers.frames import Message, RunAttempt, StopAttempt
from workers.outcome import Died

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one unit of `ru_maxrss`. getrusage(2) counts in kilobytes, and on macOS in bytes."""
MIB = 1024 * 1024
LAST_MESSAGES_TIMEOUT = 1.0
"""The longest time that a dead host's connection stays open for its last messages, in seconds."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


class HostKind(StrEnum):
    """What a host runs."""

    COROUTINE = "coroutines"
    """Coroutine handlers, many at once on one event loop."""
    FUNCTION = "functions"
    """Plain functions, one at a time."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a host ended.

    `exit_code` is its exit code, or minus the number of the signal that killed it. `peak_rss` is the largest memory
    that it took, in bytes.
    """

    pid: int
    exit_code: int
    peak_rss: int
    expected: bool
    """Whether the manager had killed the host, or told it to finish."""
    oom_kill: bool = False
    """Whether the kernel killed processes of this control group for lack of memory while the host lived."""
    handlers: int = 0
    """How many handlers had begun in the host."""

    def outcome(self) -> Died:
        """The outcome of every attempt that the host was running."""
        return Died({}, self.peak_rss, self.exit_code, self._hint(), proven=self.handlers == 1)

    def _hint(self) -> str | None:
        if self.exit_code != -signal.SIGKILL or self.expected:
            return None
        memory = f"its memory peaked at {self.peak_rss // MIB} MiB"
        return f"out of memory: {memory}" if self.oom_kill else f"perhaps out of memory: {memory}"


class Host:
    """Runs attempts in its process, and hands on the messages about them (see `frames` for both directions).

    `death` is resolved when the host has ended and all its messages have been handed on.
    """

    def __init__(
        self, kind: HostKind, pid: int, connection: HostConnection, kill: Callable[[int], None], *, slot: int
    ) -> None:
        self.kind, self.pid = kind, pid
        self.slot = slot
        """Where it notes the turns of its event loop (see `loop_turns`)."""
        self._connection, self._kill = connection, kill
        self._end_requested = False
        self.begun = 0
        """How many handlers have begun in it."""
        self._oom_kills_before = oom_kills()
        self.death: asyncio.Future[Death] = asyncio.get_running_loop().create_future()

    def on_message(self, take: Callable[[Message], None]) -> None:
        """Hand further messages of the host to `take`."""
        self._connection.on_message = take

    def run(self, attempt: RunAttempt) -> None:
        """Run an attempt; a host of functions runs it after those that it has already."""
        self._connection.send(attempt)

    def stop(self, run_id: int) -> None:
        """Ask one attempt to stop. An attempt that has ended already is not affected."""
        self._connection.send(StopAttempt(run_id))

    def kill(self) -> None:
        """Kill the host now, with every process that its handlers have started."""
        self._end_requested = True
        self._kill(self.pid)

    def finish(self) -> None:
        """Send the host no more attempts. It ends when all its attempts are over."""
        self._end_requested = True
        self._connection.finish()

    def rss(self) -> int:
        """Bytes of memory that the host takes now; 0 where the system does not say."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    async def ended(self, exit_code: int, peak_rss: int) -> None:
        """Hand on the last messages of the host, whose process has ended, and resolve `death`.

        The last message is the end of the connection. A process that the host's handlers left running may hold the
        connection open, so the wait for its end is short.
        """
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._connection.closed), LAST_MESSAGES_TIMEOUT)
        finally:
            self._connection.abort()
        if not self.death.done():
            oom_kill = oom_kills() > self._oom_kills_before
            self.death.set_result(Death(self.pid, exit_code, peak_rss, self._end_requested, oom_kill, self.begun))


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for lack of memory; 0 where it does not say."""
    try:
        lines = _MEMORY_EVENTS.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0
