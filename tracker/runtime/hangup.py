"""SIGHUP: a request to reload, or the end of the terminal at which a process was started."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

_STANDARD_STREAMS: Final = (0, 1, 2)
_terminals: list[int] = []
"""The standard streams that were a terminal when this process called `ignore`."""


def ignore() -> None:
    """Ignore SIGHUP until `on_hangup` is called. Without that, SIGHUP would kill a process that is starting."""
    _terminals[:] = filter(os.isatty, _STANDARD_STREAMS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_hangup(reload: Callable[[], object], *, stop: Callable[[], object]) -> None:
    """Call `reload` at each SIGHUP from now on, and `stop` when the terminal of this process was closed.

    The kernel and shells send SIGHUP when a terminal is closed. A process that is started by a service manager or by
    `nohup` has no terminal, so that SIGHUP never stops it. `stop` is called once, however many of them send the signal.
    """
    stopped = False

    def receive(*, asked: bool = True) -> None:
        nonlocal stopped
        if _terminal_is_closed():
            if not stopped:
                stop()
            stopped = True
        elif asked:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, receive)
    receive(asked=False)  # the terminal may have been closed while SIGHUP was ignored


def _terminal_is_closed() -> bool:
    """Whether a standard stream was a terminal and is none any more: the kernel cuts a closed terminal off."""
    return not all(map(os.isatty, _terminals))
