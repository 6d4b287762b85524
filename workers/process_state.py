"""The state of a process that a plain function may change, and that the next function must find unchanged."""

import os
import random
import signal
import socket
import time
from contextlib import suppress
from contextvars import Context, copy_context

# `signal.getsignal` looks for an enum member for each result, which takes ten times as long as the call itself.
_getsignal = signal._signal.getsignal  # type: ignore[attr-defined]  # noqa: SLF001 - see above
_ENVIRONMENT = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - `os.environ` decodes each value
_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
"""Linux needs no permission to read the directory then."""
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS = [each for each in signal.Signals if each not in {signal.SIGKILL, signal.SIGSTOP}]
"""The signals that have a name and may have a handler."""
_SEEDINGS = 5
"""How many times the generator is seeded to learn how long that takes."""


class ProcessState:
    """The state when this object was made. `restore` brings it back.

    It has the context variables, the environment, the working directory, the umask, the default timeout of sockets, the
    signal handlers and the blocked signals. Alarms and other timers are stopped. The generator of `random` gets a new
    seed, so that a function that chooses a seed does not choose the numbers of the next one.

    Signals that wait because a function has blocked them are dropped. Other state stays: module variables, open files,
    threads, resource limits, the locale, what a library keeps.
    """

    def __init__(self) -> None:
        self._directory: int | None = None
        with suppress(OSError):  # such as a directory that this user may not enter
            self._directory = os.open(".", _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._environment = dict(_ENVIRONMENT)
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._socket_timeout = socket.getdefaulttimeout()
        self._handlers = {
            signum: handler
            for signum in _SIGNALS
            if (handler := _getsignal(signum)) is not None  # None: set by a library in C
        }
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._context = copy_context()
        self._seed_seconds = min(_seconds_of_seeding() for _ in range(_SEEDINGS))

    def new_context(self) -> Context:
        """A context for one function. Its changes of context variables end with the function."""
        return self._context.copy()

    def restore(self, ran_for: float) -> None:
        """Bring the state back after a function that has run for `ran_for` seconds. Call this in the main thread."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for signum, handler in self._handlers.items():
            if _getsignal(signum) is not handler:
                signal.signal(signum, handler)
        for pending in signal.sigpending() - self._blocked:  # sent while the function blocked it
            signal.sigwait({pending})
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        if self._environment != _ENVIRONMENT:
            os.environb.clear()
            os.environb.update(self._environment)
        if self._directory is not None:
            with suppress(OSError):
                os.fchdir(self._directory)
        os.umask(self._umask)
        socket.setdefaulttimeout(self._socket_timeout)
        # For speed: a new seed takes longer than all the rest, and a function that has chosen a seed has taken as long.
        # Without this condition, a function that does nothing costs 4 % more (benchmarks.workers: noop, functions).
        if ran_for > self._seed_seconds / 2:
            random.seed(int.from_bytes(os.urandom(8)))


def _seconds_of_seeding() -> float:
    begun = time.perf_counter()
    random.seed(0)
    seconds = time.perf_counter() - begun
    random.seed()
    return seconds
