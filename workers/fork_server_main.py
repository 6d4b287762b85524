"""The process of the fork server itself: it forks hosts, kills them and reaps them (see `fork_server`)."""

import errno
import json
import os
import selectors
import signal
import socket
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog

from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from tracker.runtime import failpoints
from workers import host_main
from workers.handler_call import flush_streams
from workers.host import MAXRSS_UNIT, HostKind
from workers.loop_turns import TurnBoard

log = structlog.get_logger()

READ_BYTES = 65536
"""How many bytes one read takes at most."""
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that may go to all processes of a worker or of its terminal. The manager decides what they mean."""
_LAST_STREAM = 2
"""The highest number of a standard stream: standard error."""


class ForkServerProcess:
    """The fork server's own process. It ends when the manager's end of the channel is closed.

    The manager closes the channel, or the kernel does when the manager dies. Then the process kills the process groups
    of its hosts. With PR_SET_PDEATHSIG the kernel would kill it at the manager's death, before it could do that.
    """

    def __init__(self, channel: socket.socket, registry: TypeRegistry, turns: TurnBoard) -> None:
        self._channel, self._registry, self._turns = channel, registry, turns
        self._pids: set[int] = set()

    def run(self) -> NoReturn:
        """Serve the manager until it closes the channel, then end this process."""
        code = 1
        try:
            self._replace_inherited_sockets()
            for signum in _IGNORED:
                signal.signal(signum, signal.SIG_IGN)
            self._serve()
            code = 0
        except ConnectionError:
            code = 0  # the manager is gone
        except BaseException:
            log.exception("fork_server_failed")
        finally:
            for pid in self._pids:
                self._kill(pid)
            flush_streams()
            os._exit(code)

    def _replace_inherited_sockets(self) -> None:
        """Put /dev/null in the place of the manager's sockets, so that its connections end when it closes them.

        Standard streams are left alone: under systemd they may be sockets. Closing the sockets would free their
        numbers, and the inherited Python objects would later close whatever has those numbers by then.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for path in list(Path("/dev/fd").iterdir()):
            fd = int(path.name)
            with suppress(OSError):  # the listing's own descriptor is closed already
                if fd > _LAST_STREAM and fd != self._channel.fileno() and stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.dup2(null, fd, inheritable=False)
        os.close(null)

    def _serve(self) -> None:
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler Python would not write to the waker
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        unread = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wake in ready:
                with suppress(BlockingIOError):
                    os.read(wake, READ_BYTES)
                self._reap()
            if self._channel.fileno() in ready:
                data = self._channel.recv(READ_BYTES)
                if not data:
                    return
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    self._handle(json.loads(line))

    def _handle(self, request: Json) -> None:
        if "fork" in request:
            self._fork(HostKind(request["fork"]), request["slot"])
        elif request["kill"] in self._pids:
            self._kill(request["kill"])

    def _fork(self, kind: HostKind, slot: int) -> None:
        """Fork a host and send its socket to the manager, or say why the system refuses."""
        ours = theirs = None
        try:
            ours, theirs = socket.socketpair()
            failpoints.reach(failpoints.BEFORE_FORK)
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_host(theirs, ours, kind, parent, slot)
            self._pids.add(pid)
            answer, fds = {"forked": pid}, [ours.fileno()]
        except OSError as error:
            answer, fds = {"not_forked": error.errno or errno.EAGAIN}, []
        socket.send_fds(self._channel, [json.dumps(answer).encode() + b"\n"], fds)
        for end in filter(None, (ours, theirs)):
            end.close()

    def _become_host(
        self, channel: socket.socket, other_end: socket.socket, kind: HostKind, parent: int, slot: int
    ) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signum in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):  # the host itself ignores the others
            signal.signal(signum, signal.SIG_DFL)
        self._channel.close()
        other_end.close()
        note_turn = partial(self._turns.note, slot)
        host_main.main(channel, self._registry, kind, parent=parent, note_turn=note_turn)

    def _reap(self) -> None:
        while self._pids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            # Kill what the host's handlers left running, before the reaping below frees the number of the group.
            self._kill(ended.si_pid)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            self._pids.discard(pid)
            exit_code, peak_rss = os.waitstatus_to_exitcode(status), usage.ru_maxrss * MAXRSS_UNIT
            death = {"died": pid, "exit_code": exit_code, "peak_rss": peak_rss}
            self._channel.sendall(json.dumps(death).encode() + b"\n")

    @staticmethod
    def _kill(pid: int) -> None:
        """Kill a host's process group: the host, and the processes that its handlers started.

        A host that was forked just now has no group of its own yet, and has started nothing.
        """
        with suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(pid, signal.SIGKILL)
