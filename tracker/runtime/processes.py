"""A supervisor of child processes: it starts them, restarts them when they die, and stops them in order."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from tracker.errors import ConfigurationError

log = structlog.get_logger(__name__)

LONGEST_LINE = 64 * 1024
"""How many bytes of an unfinished line of output are held back at most. A longer line is cut."""

Escalation = Sequence[tuple[float, signal.Signals]]
"""Signals to send, each with its time in seconds from the call."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(signum: signal.Signals = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Have the kernel send `signum` to this process when its parent ends (prctl(2), PR_SET_PDEATHSIG).

    `parent` is the pid of the parent, as the caller knows it. If that process is gone already, the signal is sent now.
    The kernel counts the thread that started this process as its parent. On systems other than Linux this function does
    nothing.
    """
    if _LIBC is None:
        return
    expected = os.getppid() if parent is None else parent
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != expected:
        os.kill(os.getpid(), signum)


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running. `env` is added to the environment of this process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a restart, in seconds: `first` after the first death, doubled by each further one, at most `cap`.

    After a child has lived for `healthy_after` seconds, its next death counts as the first.
    """

    first: float = 0.1
    cap: float = 10.0
    healthy_after: float = 30.0

    def delay(self, deaths: int) -> float:
        """The wait in seconds after `deaths` deaths in a row, at least 1."""
        doublings = min(deaths - 1, 64)  # 2.0 ** 1024 overflows, and the cap is long reached
        return float(min(self.cap, self.first * 2.0**doublings))


class Supervisor:
    """Keeps children running until `stop`. It must be used from the main thread.

    `on_line` is called with `(name, line)` for each line of output, of both streams in order. Without it children write
    to this process's own streams. `on_start` is called with `(name, pid)` at every start. A child whose first process
    exits with `fatal_exit` is not restarted, because another start would end in the same way.

    Each child leads a session of its own, so a terminal's Ctrl-C reaches this process only. A child ignores SIGHUP
    until it handles it. On Linux the children die when this process dies.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        on_line: Callable[[str, str], None] | None = None,
        on_start: Callable[[str, int], None] | None = None,
        fatal_exit: int | None = None,
        first_backoff: float = 0.1,
        backoff_cap: float = 10.0,
        healthy_after: float = 30.0,
    ) -> None:
        backoff = Backoff(first_backoff, backoff_cap, healthy_after)
        self._kept = {child.name: _Kept(child, on_line, on_start, fatal_exit, backoff) for child in children}

    @property
    def pids(self) -> dict[str, int]:
        """The pids of the children that are alive, by name."""
        return {name: kept.process.pid for name, kept in self._kept.items() if kept.alive and kept.process}

    def start(self, name: str) -> None:
        """Start one child now and keep it running. A child that was started already is left alone."""
        self._kept[name].start()

    async def run(self) -> None:
        """Start every child that is not started yet. Return when all of them have been stopped.

        Cancelling this call stops no child: call `stop`. Raises ConfigurationError when a child exits with
        `fatal_exit`; the other children run on.
        """
        tasks = [kept.start() for kept in self._kept.values()]
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()

    def send(self, signum: signal.Signals, *, to: Collection[str] | None = None) -> None:
        """Send a signal to the processes that are alive now. `to` names the children; default: all."""
        for name, kept in self._kept.items():
            if to is None or name in to:
                kept.send_once(signum)

    async def stop(self, escalation: Escalation, *, only: Collection[str] | None = None) -> None:
        """Stop restarting children, and send each signal at its time to those that are still alive.

        Returns as soon as all are gone. So the last signal should be one that a process cannot ignore. `only` names the
        children to stop; default: all. A second call with earlier signals may come while the first is under way.
        """
        chosen = [kept for name, kept in self._kept.items() if only is None or name in only]
        for kept in chosen:
            kept.stopping.set()
        begun = asyncio.get_running_loop().time()
        for after, signum in escalation:
            if await _all_gone(chosen, by=begun + after):
                return
            for kept in chosen:
                kept.send(signum)
        await _all_gone(chosen, by=None)


class _Kept:
    """One child: its present process, and the task that starts a new process when the present one dies."""

    def __init__(
        self,
        child: Child,
        on_line: Callable[[str, str], None] | None,
        on_start: Callable[[str, int], None] | None,
        fatal_exit: int | None,
        backoff: Backoff,
    ) -> None:
        self.child = child
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        self._on_line, self._on_start, self._fatal_exit, self._backoff = on_line, on_start, fatal_exit, backoff
        self._last_signal: signal.Signals | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def start(self) -> asyncio.Task[None]:
        if self.task is None:
            self.task = asyncio.create_task(self._keep(), name=f"keep {self.child.name}")
        return self.task

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the process. A process that is being started gets it as soon as it exists."""
        self._last_signal = signum
        self.send_once(signum)

    def send_once(self, signum: signal.Signals) -> None:
        """Send a signal to the present process, if it is alive, and to no process that is started later."""
        if self.process is not None and self.alive:
            with suppress(ProcessLookupError):
                self.process.send_signal(signum)

    async def _keep(self) -> None:
        loop, deaths, fatal = asyncio.get_running_loop(), 0, self._fatal_exit
        while not self.stopping.is_set():
            begun = loop.time()
            death = await self._live()
            if self.stopping.is_set():
                return
            if fatal is not None and death.get("exit_code") == fatal:
                raise ConfigurationError(f"{self.child.name} cannot start; its own last line says why")
            fatal = None
            deaths = 1 if loop.time() - begun >= self._backoff.healthy_after else deaths + 1
            delay = self._backoff.delay(deaths)
            log.warning("child_died", child=self.child.name, **death, restart_in=delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), delay)

    async def _live(self) -> dict[str, Any]:
        """Run the child once, from start to death. Returns what is known of the death, as fields for the log."""
        try:
            process, output = await self._spawn()
        except OSError as error:
            return {"error": str(error)}
        self.process = process
        log.info("child_started", child=self.child.name, pid=process.pid)
        if self._on_start is not None:
            self._on_start(self.child.name, process.pid)
        if self._last_signal is not None:
            self.send(self._last_signal)
        code = await process.wait()
        if output is not None:
            await output.finish()
        return {"pid": process.pid, **_ending(code)}

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, "_Output | None"]:
        start = partial(
            asyncio.create_subprocess_exec,
            *self.child.argv,
            env={**os.environ, **self.child.env},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(_prepare, parent=os.getpid()),
        )
        if self._on_line is None:
            return await start(), None
        reading, writing = os.pipe()  # our own, as Process.wait may wait for a grandchild that holds the pipe
        try:
            output = await _Output.connect(reading, partial(self._on_line, self.child.name))
            return await start(stdout=writing, stderr=writing), output
        finally:
            os.close(writing)


class _Output(asyncio.Protocol):
    """The output of a child, passed on line by line."""

    READ_ON_TIMEOUT = 0.5
    """The longest time to read on after the child's death, in seconds. A grandchild may hold the pipe open longer."""

    def __init__(self, give: Callable[[str], None]) -> None:
        self._give, self._rest = give, b""
        self._ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def connect(cls, descriptor: int, give: Callable[[str], None]) -> "_Output":
        """Start to read the pipe. The descriptor is closed at its end."""
        reader = os.fdopen(descriptor, "rb", buffering=0)
        transport, output = await asyncio.get_running_loop().connect_read_pipe(lambda: cls(give), reader)
        output._transport = transport  # noqa: SLF001 - its own instance
        return output

    def data_received(self, data: bytes) -> None:
        """Pass on the complete lines, and an unfinished line that is too long to be held back."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        self._give_all(lines)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Pass on the last line, which has no line end."""
        if self._rest:
            self._give_all([self._rest])
        self._ended.set()

    async def finish(self) -> None:
        """Wait for the end of the pipe, for at most READ_ON_TIMEOUT, and close it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), self.READ_ON_TIMEOUT)
        if self._transport is not None:
            self._transport.close()

    def _give_all(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._give(line.decode(errors="replace").rstrip("\r"))


def _prepare(parent: int) -> None:
    """Prepare a new process before its program begins.

    SIGHUP would kill it as long as it has no handler of its own. A signal that is ignored stays so in a new program.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL, parent=parent)


async def _all_gone(chosen: Iterable[_Kept], *, by: float | None) -> bool:
    """Wait until none of these children is kept any more, at most until `by` on the loop's clock."""
    tasks = [kept.task for kept in chosen if kept.task is not None]
    if not tasks:
        return True
    timeout = None if by is None else max(0.0, by - asyncio.get_running_loop().time())
    _, pending = await asyncio.wait(tasks, timeout=timeout)
    return not pending


def _ending(code: int) -> dict[str, Any]:
    """The end of a process, as fields for the log. asyncio gives a signal as its negative number."""
    return {"signal": signal.strsignal(-code) or -code} if code < 0 else {"exit_code": code}
