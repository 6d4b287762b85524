"""The signals that stop a process in order, and the signals that it outlives."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

log = structlog.get_logger()

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that stop. A terminal sends SIGINT at Ctrl-C and SIGQUIT at Ctrl-\\."""
IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals without a meaning here. By default they kill a process at once."""


def end_early() -> None:
    """Let a signal that stops end this process with exit code 0, until `on_stop` is called. Nothing has begun yet.

    By default SIGQUIT kills a process at once, Ctrl-C shows a traceback, and the kernel gives SIGTERM only to a process
    with pid 1 that has a handler for it (pid_namespaces(7)).
    """
    for signum in STOPS:
        signal.signal(signum, _exit)
    for signum in IGNORED:
        signal.signal(signum, _ignore)


def on_stop(stop: Callable[[], object]) -> None:
    """Call `stop` at each signal that stops, and log each signal without a meaning. It needs a running event loop."""
    loop = asyncio.get_running_loop()
    for signum in STOPS:
        loop.add_signal_handler(signum, stop)
    for signum in IGNORED:
        loop.add_signal_handler(signum, partial(log.info, "signal_ignored", signal=signum.name))


def _pass_on(child: int, signum: int) -> None:
    with suppress(ProcessLookupError):  # it has ended just now
        os.kill(child, signum)


def _exit(*_: Any) -> None:
    sys.exit(0)


def _ignore(*_: Any) -> None:
    pass


def adopt_orphans() -> None:
    """Reap the orphans of this process's children, if this is the first process of its container (pid 1).

    The kernel gives orphans to pid 1. Nobody else can reap them, so they would stay as zombies. The rest of the program
    runs in a child of this process then, which gets each signal that this process gets.
    """
    if os.getpid() == 1:
        run_in_child()


def run_in_child() -> None:
    """Go on in a child. This process passes signals on, reaps orphans, and ends as the child ends."""
    passed = (*STOPS, *IGNORED, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    child = os.fork()
    if child:
        for signum in passed:
            signal.signal(signum, lambda received, _: _pass_on(child, received))
    else:
        os.setpgid(0, 0)  # else a terminal would send Ctrl-C to both, and the child would get it twice
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    if not child:
        return
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
