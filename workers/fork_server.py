"""The fork server: a process that forks hosts, kills them and reaps them, and does nothing else.

The manager forks the fork server before the manager has an event loop or a second thread. So every host is forked from
a process with one thread and no loop.

Only the fork server reaps hosts and signals them, and it does so in one thread. So a signal cannot reach a process that
got the pid of a host which was reaped meanwhile.

The manager sends lines of JSON: `{"fork": kind}` and `{"kill": pid}`. The fork server answers `{"forked": pid}`, with
the host's socket attached, and `{"died": pid, "exit_code": …, "peak_rss": …}`.
"""

import asyncio
import json
import os
import selectors
import signal
import socket
import stat
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from workers import host_main
from workers.connection import HostConnection
from workers.frames import Message
from workers.handler_call import flush_streams
from workers.host import MAXRSS_UNIT, Host, HostKind

READ_BYTES = 65536
"""How many bytes one read takes at most."""
MAX_FDS = 64
"""How many file descriptors one read takes at most."""
LOST = "the fork server has died"
_LAST_STREAM = 2
"""The highest number of a standard stream: standard error."""


class ForkServer:
    """The manager's side. `lost` is set when the fork server dies before it is closed. Its hosts die with it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel
        self._requested: deque[tuple[HostKind, Callable[[Message], None], asyncio.Future[Host]]] = deque()
        self._hosts: dict[int, Host] = {}
        self._unread = b""
        self._fds: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        self._closed = False

    @classmethod
    def fork(cls, registry: TypeRegistry) -> "ForkServer":
        """Start a fork server. Call this before the process has an event loop or a second thread."""
        ours, theirs = socket.socketpair()
        flush_streams()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _ForkServerProcess(theirs, registry).run()
        theirs.close()
        return cls(pid, ours)

    async def open(self) -> None:
        """Attach to the running event loop, to read what the fork server answers."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._read)

    async def start_host(self, kind: HostKind, on_message: Callable[[Message], None]) -> Host:
        """Fork a host, whose messages go to `on_message`. Raises ConnectionError when the fork server has died."""
        if self.lost.is_set():
            raise ConnectionError(LOST)
        host: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        self._requested.append((kind, on_message, host))
        self._request({"fork": kind.value})
        return await host

    async def close(self) -> None:
        """End the fork server. It kills the hosts that are left."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        self._channel.close()  # the fork server reads the end of the channel, kills its hosts, and ends
        await loop.run_in_executor(None, self._reap)
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)  # hosts that were forked or died just now
        await asyncio.gather(*(host.ended(-signal.SIGKILL, 0) for host in self._hosts.values()))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _request(self, request: Json) -> None:
        with suppress(OSError):
            self._channel.send(json.dumps(request).encode() + b"\n")

    def _kill(self, pid: int) -> None:
        if pid in self._hosts:
            self._request({"kill": pid})

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, READ_BYTES, MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        self._fds.extend(fds)
        if not data:
            self._on_lost()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            reply: Json = json.loads(line)
            if "forked" in reply:
                self._in_background(self._on_forked(reply["forked"], self._fds.popleft()))
            else:
                self._in_background(self._on_died(reply))

    def _on_lost(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        self.lost.set()
        for host in self._hosts.values():
            self._in_background(host.ended(-signal.SIGKILL, 0))
        self._hosts = {}
        for _, _, requested in self._requested:
            if not requested.done():
                requested.set_exception(ConnectionError(LOST))

    async def _on_forked(self, pid: int, fd: int) -> None:
        kind, on_message, requested = self._requested.popleft()
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            partial(HostConnection, on_message), sock=socket.socket(fileno=fd)
        )
        self._hosts[pid] = Host(kind, pid, connection, self._kill)
        if not requested.cancelled():
            requested.set_result(self._hosts[pid])

    async def _on_died(self, death: Json) -> None:
        while death["died"] not in self._hosts:  # `_on_forked` is not done yet
            if self.lost.is_set() or self._closed:
                return
            await asyncio.sleep(0)
        await self._hosts.pop(death["died"]).ended(death["exit_code"], death["peak_rss"])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _ForkServerProcess:
    """The fork server's own process. It ends when the manager's end of the channel is closed.

    The manager closes the channel, or the kernel does when the manager dies. Then the process kills the process groups
    of its hosts. With PR_SET_PDEATHSIG the kernel would kill it at the manager's death, before it could do that.
    """

    def __init__(self, channel: socket.socket, registry: TypeRegistry) -> None:
        self._channel, self._registry = channel, registry
        self._pids: set[int] = set()

    def run(self) -> NoReturn:
        try:
            self._replace_inherited_sockets()
            for signum in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, perhaps; the manager decides
                signal.signal(signum, signal.SIG_IGN)
            self._serve()
        finally:
            for pid in self._pids:
                self._kill(pid)
            os._exit(0)

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
            self._fork(HostKind(request["fork"]))
        elif request["kill"] in self._pids:
            self._kill(request["kill"])

    def _fork(self, kind: HostKind) -> None:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._channel.close()
            ours.close()
            host_main.main(theirs, self._registry, kind, parent=parent)
        with suppress(OSError):  # the host does the same: neither may go on before the group exists
            os.setpgid(pid, pid)
        theirs.close()
        self._pids.add(pid)
        socket.send_fds(self._channel, [json.dumps({"forked": pid}).encode() + b"\n"], [ours.fileno()])
        ours.close()

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
        """Kill a host's process group: the host, and the processes that its handlers started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
