"""The entry of a host's process.

A host runs handlers and has no connection to Redis. Its manager sends it attempts, and gets the outcome of each (see
`frames`). It ends when the manager sends no more and all its attempts are over.
"""

import atexit
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

import structlog

from tracker.domain.type_registry import TypeRegistry
from tracker.runtime.background import new_loop
from tracker.runtime.processes import die_with_parent
from workers import host_output
from workers.coroutine_host import CoroutineHost
from workers.function_host import FunctionHost
from workers.handler_call import flush_streams
from workers.host import HostKind
from workers.host_hooks import FunctionHooks

log = structlog.get_logger()

_STANDARD_INPUT = 0


def main(
    channel: socket.socket, registry: TypeRegistry, kind: HostKind, *, parent: int, note_turn: Callable[[int], None]
) -> NoReturn:
    """Be a host of that kind until its attempts are over, then end this process.

    `channel` is the socket to the manager. `parent` is the pid of the fork server, with which the host ends.
    `note_turn` notes that the event loop of the host turns, as `TurnBoard.note` does.
    """
    code = 1
    try:
        with contextlib.suppress(OSError):  # it leads a session already
            os.setsid()
        die_with_parent(signal.SIGKILL, parent=parent)
        atexit._clear()  # noqa: SLF001 - what the manager has registered is not for its children
        _detach_standard_input()
        _ignore_stop_signals()
        host_output.set_off()
        if kind is HostKind.COROUTINE:
            CoroutineHost(registry, note_turn).run(channel, new_loop())
        else:
            hooks = FunctionHooks(registry.hooks)
            hooks.start()
            FunctionHost(registry, channel).serve()
            hooks.stop()
        code = 0
    except BaseException:
        log.exception("host_failed", kind=kind)
    finally:
        flush_streams()
        os._exit(code)


def _detach_standard_input() -> None:
    """Put /dev/null in the place of standard input, for handlers and the processes that they start.

    A handler that read the worker's terminal would take what somebody types there for the worker. In the terminal's own
    session, the system would stop the handler's process and so all coroutines of the host (SIGTTIN).
    """
    null = os.open(os.devnull, os.O_RDONLY)
    if null == _STANDARD_INPUT:  # it was closed
        os.set_inheritable(null, True)
    else:
        os.dup2(null, _STANDARD_INPUT)
        os.close(null)


def _ignore_stop_signals() -> None:
    """Ignore SIGTERM, SIGINT and SIGHUP in the host, but not in processes that its handlers start.

    A terminal, a service manager or `pkill` may send them to all processes of a worker, but the manager decides what
    stops. SIG_IGN would be inherited through exec, so the host has handlers that do nothing; a fork resets them.
    """
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)
        os.register_at_fork(after_in_child=lambda signum=signum: signal.signal(signum, signal.SIG_DFL))
