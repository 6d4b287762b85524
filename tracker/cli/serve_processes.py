"""`tracker serve --processes N`: several API processes that share one port, and their supervisor."""

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tracker import log
from tracker.cli.output import Exit, print_line
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.runtime import hangup, signals
from tracker.runtime.processes import Child, Supervisor
from tracker.visible_text import visible_lines

TERM, KILL = signal.SIGTERM, signal.SIGKILL
STOP_WITHIN = 20.0
"""The longest time that a stopping process has to answer its requests, in seconds. Then it is killed."""
READY = "ready "
"""The word that a process prints before its URL once it listens."""


async def run(settings: Settings, processes: int) -> None:
    """Run several API processes until SIGTERM or SIGINT. A process that dies is replaced.

    The kernel spreads new connections over the processes (SO_REUSEPORT). SIGHUP is passed on to all processes, which
    read their file of tokens again. Raises ConfigurationError when the address is in use, or when a process refuses its
    configuration.
    """
    stop = asyncio.Event()
    signals.on_stop(stop.set)
    with _reserved(settings.host, settings.port) as port:
        supervisor = Supervisor(
            _children(settings, port, processes), on_line=_Printer(processes), fatal_exit=Exit.USAGE
        )
        hangup.on_hangup(partial(supervisor.send, signal.SIGHUP), stop=stop.set)
        running = asyncio.create_task(supervisor.run())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            stopped.cancel()
            await supervisor.stop([(0, TERM), (STOP_WITHIN, KILL)])
            running.cancel()


def _children(settings: Settings, port: int, processes: int) -> list[Child]:
    argv = (sys.executable, "-m", "tracker.cli.main", "serve", "--share-port", "--processes", "1")
    environment = {
        "TRACKER_HOST": settings.host,
        "TRACKER_PORT": str(port),
        "TRACKER_AUTH": settings.auth,
        "PYTHONUNBUFFERED": "1",
    }
    return [Child(f"api-{number}", argv, environment) for number in range(1, processes + 1)]


@contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Reserve a port that processes of this user can share; for 0 a free port. Raises ConfigurationError."""
    family, address = _address(host, port)
    try:
        if port:
            with socket.socket(family) as alone:  # fails when any process listens there, sharing the port or not
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        with socket.socket(family) as shared:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(shared, address)
            yield shared.getsockname()[1]
    except OSError as error:
        raise ConfigurationError(f"{host} port {port}: {error.strerror}") from None


def _bind(shared: socket.socket, address: tuple[str, int]) -> None:
    """Bind the socket that reserves the port. Nothing listens on the port, which the caller has checked.

    The closed connections of a process that had the port for itself may still be in TIME-WAIT (RFC 9293, 3.3.2). Linux
    lets no socket share the port with them, unless that socket has SO_REUSEADDR, too. With that option, however, others
    could listen on the port until the first of our processes does. So the option is used only when it is needed.
    """
    try:
        shared.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.bind(address)


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("this system cannot share a port: TRACKER_API_PROCESSES must be 1")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigurationError(f"{host}: {error.strerror}") from None
    family, *_, address = found[0]
    return family, (str(address[0]), int(address[1]))


class _Printer:
    """Passes on the lines of the processes, and prints `ready` once, when each of them is ready."""

    def __init__(self, processes: int) -> None:
        self._missing = {f"api-{number}" for number in range(1, processes + 1)}

    def __call__(self, name: str, line: str) -> None:
        """Take one line of a process."""
        if not line.startswith(READY):
            log.relay(visible_lines(line))
        elif self._missing:
            self._missing.discard(name)
            if not self._missing:
                print_line(line)
