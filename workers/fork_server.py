"""The fork_server: a process that forks hosts, reaps them and kills them, and does nothing else.

It is forked before its manager has an event loop or a thread, so that every host is forked from a process which has
one thread and no loop. As it alone reaps, and has but one thread, it never signals a pid that is somebody else's.
"""

import asyncio
import gc
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
from workers.frames import Line
from workers.host import RSS_UNIT, Host, HostKind

CHUNK = 65536
MOST_FDS = 64
DIED = "the fork_server has died"
_LAST_STREAM = 2


class ForkServer:
    """The manager's side. `lost` is set when the fork_server has died without being asked; its hosts died with it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel
        self._wanted: deque[tuple[HostKind, Callable[[Json], None], asyncio.Future[Host]]] = deque()
        self._hosts: dict[int, Host] = {}
        self._rest = b""
        self._fds: deque[int] = deque()
        self._work: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        self._closed = False

    @classmethod
    def fork(cls, registry: TypeRegistry) -> "ForkServer":
        """Start one. Call it before there is a loop or a thread."""
        ours, theirs = socket.socketpair()
        host_main.flush()
        gc.collect()
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _Forker(theirs, registry).run()
        gc.unfreeze()
        theirs.close()
        return cls(pid, ours)

    async def open(self) -> None:
        """Attach to the running loop."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._read)

    async def host(self, kind: HostKind, on_message: Callable[[Json], None]) -> Host:
        """Fork a host; `on_message` gets what it says. Raises ConnectionError when the fork_server has died."""
        if self.lost.is_set():
            raise ConnectionError(DIED)
        born: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        self._wanted.append((kind, on_message, born))
        self._ask({"fork": kind.value})
        return await born

    async def close(self) -> None:
        """Kill what is left, and end the fork_server."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        self._channel.close()  # it ends when it reads this, and its hosts with it
        await loop.run_in_executor(None, self._reap)
        self._closed = True
        await asyncio.gather(*self._work, return_exceptions=True)  # some hosts were just born, others have just ended
        await asyncio.gather(*(host.gone(-signal.SIGKILL, 0) for host in self._hosts.values()))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ask(self, request: Json) -> None:
        with suppress(OSError):
            self._channel.send(json.dumps(request).encode() + b"\n")

    def _kill(self, pid: int) -> None:
        if pid in self._hosts:
            self._ask({"kill": pid})

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, CHUNK, MOST_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        self._fds.extend(fds)
        if not data:
            self._end()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message: Json = json.loads(line)
            if "born" in message:
                self._start(self._welcome(message["born"], self._fds.popleft()))
            else:
                self._start(self._farewell(message))

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        self.lost.set()
        for host in self._hosts.values():
            self._start(host.gone(-signal.SIGKILL, 0))
        self._hosts = {}
        for _, _, born in self._wanted:
            if not born.done():
                born.set_exception(ConnectionError(DIED))

    async def _welcome(self, pid: int, fd: int) -> None:
        kind, on_message, born = self._wanted.popleft()
        _, line = await asyncio.get_running_loop().create_unix_connection(
            partial(Line, on_message), sock=socket.socket(fileno=fd)
        )
        self._hosts[pid] = Host(kind, pid, line, self._kill)
        if not born.cancelled():
            born.set_result(self._hosts[pid])

    async def _farewell(self, death: Json) -> None:
        while death["died"] not in self._hosts:
            if self.lost.is_set() or self._closed:
                return
            await asyncio.sleep(0)
        await self._hosts.pop(death["died"]).gone(death["code"], death["peak_rss"])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


class _Forker:
    """The fork_server's own process. It ends when its manager has closed the channel, which a death does too.

    Then it still kills the hosts' groups, which a signal at the manager's death would not leave it the time for.
    """

    def __init__(self, channel: socket.socket, registry: TypeRegistry) -> None:
        self._channel, self._registry = channel, registry
        self._pids: set[int] = set()

    def run(self) -> NoReturn:
        try:
            self._drop_the_managers_connections()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)
            self._serve()
        finally:
            for pid in self._pids:
                self._kill(pid)
            os._exit(0)

    def _drop_the_managers_connections(self) -> None:
        """Put /dev/null in the place of inherited sockets, but for standard streams (systemd's may be sockets).

        Closing would free their numbers, which the objects that we inherited would then close again.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for path in list(Path("/dev/fd").iterdir()):
            fd = int(path.name)
            with suppress(OSError):  # the one that the listing itself took
                if fd > _LAST_STREAM and fd != self._channel.fileno() and stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.dup2(null, fd, inheritable=False)
        os.close(null)

    def _serve(self) -> None:
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        rest = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wake in ready:
                with suppress(BlockingIOError):
                    os.read(wake, CHUNK)
                self._reap()
            if self._channel.fileno() in ready:
                data = self._channel.recv(CHUNK)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, request: Json) -> None:
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
            host_main.main(theirs, self._registry, parent=parent, concurrent=kind is HostKind.COROUTINE)
        with suppress(OSError):  # the host does the same; whoever comes first
            os.setpgid(pid, pid)
        theirs.close()
        self._pids.add(pid)
        socket.send_fds(self._channel, [json.dumps({"born": pid}).encode() + b"\n"], [ours.fileno()])
        ours.close()

    def _reap(self) -> None:
        while self._pids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            self._kill(ended.si_pid)  # its group: what its handlers left behind; while it is not reaped, the pid is its
            pid, status, usage = os.wait4(ended.si_pid, 0)
            self._pids.discard(pid)
            death = {"died": pid, "code": os.waitstatus_to_exitcode(status), "peak_rss": usage.ru_maxrss * RSS_UNIT}
            self._channel.sendall(json.dumps(death).encode() + b"\n")

    @staticmethod
    def _kill(pid: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
