"""The fork server: a process that forks hosts, kills them and reaps them, and does nothing else.

The manager forks the fork server before the manager has an event loop or a second thread. So every host is forked from
a process with one thread and no loop.

Only the fork server reaps hosts and signals them, and it does so in one thread. So a signal cannot reach a process that
got the pid of a host which was reaped meanwhile.

The manager sends lines of JSON: `{"fork": kind, "slot": number}` and `{"kill": pid}`. The fork server answers
`{"forked": pid}`, with the host's socket attached, or `{"not_forked": errno}`, and
`{"died": pid, "exit_code": …, "peak_rss": …}`.
"""

import asyncio
import errno
import gc
import json
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from tracker.domain.hooks import DECLARED_HOOKS
from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from workers.connection import HostConnection
from workers.fork_limits import patiently
from workers.fork_server_main import READ_BYTES, ForkServerProcess
from workers.frames import Message
from workers.handler_call import flush_streams
from workers.host import Host, HostKind
from workers.loop_turns import NO_SLOT, TurnBoard

log = structlog.get_logger()

START_TIMEOUT = 600.0
"""The longest time that a host may take until it is ready, in seconds. Then it is killed."""
MAX_FDS = 64
"""How many file descriptors one read takes at most."""
LOST = "the fork server has died"
_NO_DESCRIPTOR = -1
"""In the place of a host's socket that this process had no descriptor for."""


class HostNotStarted(OSError):
    """A host has ended before it could run handlers, for example because a start hook has raised."""


class _ForkRequest(NamedTuple):
    """A host that was asked for, and is not there yet. Its messages will go to `on_message`."""

    kind: HostKind
    on_message: Callable[[Message], None]
    host: asyncio.Future[Host]
    slot: int

    def fail(self, error: OSError) -> None:
        if not self.host.done():
            self.host.set_exception(error)


class ForkServer:
    """The manager's side. `lost` is set when the fork server dies before it is closed. Its hosts die with it."""

    def __init__(self, pid: int, channel: socket.socket, turns: TurnBoard) -> None:
        self.pid, self._channel, self.turns = pid, channel, turns
        self._requested: deque[_ForkRequest] = deque()
        """In the order in which the fork server answers."""
        self._starting: dict[int, _ForkRequest] = {}
        """Requests whose host is forked and not ready, by its pid."""
        self._hosts: dict[int, Host] = {}
        self._discarded: set[int] = set()
        """Pids of hosts that could not be used. They are killed, and their deaths mean nothing."""
        self._unread = b""
        self._fds: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        self._closed = False

    @classmethod
    def fork(cls, registry: TypeRegistry) -> "ForkServer":
        """Start a fork server. Call this before the process has an event loop or a second thread.

        Tries again when the system refuses a process. Raises OSError when it still does after some seconds.
        """
        ours, theirs = socket.socketpair()
        turns = TurnBoard()
        flush_streams()
        _warn_of_threads()
        _warn_of_hooks(registry)
        # For memory: without the freeze, collections in the hosts write to the objects that they share with this
        # process, and so copy their pages. A worker then takes 8 % more (benchmarks.memory: worker, idle).
        gc.collect()
        gc.freeze()
        try:
            pid = patiently(os.fork, "fork server")
        except OSError:
            gc.unfreeze()
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            ours.close()
            ForkServerProcess(theirs, registry, turns).run()
        gc.unfreeze()
        theirs.close()
        return cls(pid, ours, turns)

    async def open(self) -> None:
        """Attach to the running event loop, to read what the fork server answers."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._read)

    async def start_host(self, kind: HostKind, on_message: Callable[[Message], None]) -> Host:
        """Fork a host, whose messages go to `on_message`, and wait until it is ready to run handlers.

        Raises ConnectionError when the fork server has died, HostNotStarted when the host has ended before it was
        ready, and another OSError when the system refuses a process.
        """
        if self.lost.is_set():
            raise ConnectionError(LOST)
        host: asyncio.Future[Host] = asyncio.get_running_loop().create_future()
        slot = self.turns.take_slot() if kind is HostKind.COROUTINE else NO_SLOT
        self._requested.append(_ForkRequest(kind, on_message, host, slot))
        self._request({"fork": kind.value, "slot": slot})
        try:
            async with asyncio.timeout(START_TIMEOUT):
                return await host
        except TimeoutError:
            for pid in [pid for pid, request in self._starting.items() if request.host is host]:
                self._kill(pid)
            raise HostNotStarted(f"a process for handlers was not ready within {START_TIMEOUT:g} s") from None

    async def close(self) -> None:
        """End the fork server. It kills the hosts that are left."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        self._channel.close()  # the fork server reads the end of the channel, kills its hosts, and ends
        try:
            await loop.run_in_executor(None, self._reap)
        except RuntimeError:  # the system refuses a thread
            self._reap()
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)  # hosts that were forked or died just now
        await asyncio.gather(*(host.ended(-signal.SIGKILL, 0) for host in self._hosts.values()))
        self._refuse_all()

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
            data, fds, flags, _ = socket.recv_fds(self._channel, READ_BYTES, MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds, flags = b"", [], 0
        # The kernel drops a descriptor that this process has no room for, and sets the flag. A read brings one at most.
        self._fds.extend([_NO_DESCRIPTOR] if flags & socket.MSG_CTRUNC else fds)
        if not data:
            self._on_lost()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            reply: Json = json.loads(line)
            if "died" in reply:
                self._in_background(self._on_died(reply))
            else:
                self._on_reply(reply)

    def _on_reply(self, reply: Json) -> None:
        """Take the reply to the first request: a host, or the number of the system's error."""
        request = self._requested.popleft()
        if "forked" in reply:
            self._in_background(self._on_forked(reply["forked"], self._fds.popleft(), request))
        else:
            self.turns.free_slot(request.slot)
            request.fail(_os_error(reply["not_forked"]))

    def _on_lost(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        self.lost.set()
        for host in self._hosts.values():
            self._in_background(host.ended(-signal.SIGKILL, 0))
        self._hosts = {}
        self._refuse_all()

    def _refuse_all(self) -> None:
        """Fail the requests whose hosts will never be ready."""
        for request in (*self._requested, *self._starting.values()):
            request.fail(ConnectionError(LOST))

    async def _on_forked(self, pid: int, fd: int, request: _ForkRequest) -> None:
        def protocol() -> HostConnection:
            connection = HostConnection(lambda _: self._on_ready(host))
            self._hosts[pid] = host = Host(request.kind, pid, connection, self._kill, slot=request.slot)
            self._starting[pid] = request
            return connection

        try:
            if fd == _NO_DESCRIPTOR:
                raise _os_error(errno.EMFILE)
            _, connection = await asyncio.get_running_loop().create_unix_connection(
                protocol, sock=socket.socket(fileno=fd)
            )
        except OSError as error:
            self._hosts.pop(pid, None)
            self._starting.pop(pid, None)
            self._discarded.add(pid)
            self.turns.free_slot(request.slot)
            self._request({"kill": pid})
            request.fail(error)
            return
        if self.lost.is_set():
            connection.abort()
            request.fail(ConnectionError(LOST))

    def _on_ready(self, host: Host) -> None:
        """Complete the request for the host, which has sent its first message."""
        request = self._starting.pop(host.pid)
        host.on_message(request.on_message)
        if not request.host.done():  # as when the fork server has died meanwhile
            request.host.set_result(host)

    async def _on_died(self, death: Json) -> None:
        pid = death["died"]
        while pid not in self._hosts:  # `_on_forked` is not done yet
            if self.lost.is_set() or self._closed or pid in self._discarded:
                self._discarded.discard(pid)
                return
            await asyncio.sleep(0)
        host = self._hosts.pop(pid)
        self.turns.free_slot(host.slot)
        await host.ended(death["exit_code"], death["peak_rss"])
        if (request := self._starting.pop(pid, None)) is not None:
            request.fail(
                HostNotStarted(f"a process for handlers ended with exit code {death['exit_code']} at its start")
            )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _warn_of_threads() -> None:
    """Name the threads that modules have started when they were imported: hosts do not have them."""
    others = sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
    if others:
        log.warning("threads_at_fork", threads=others, advice="handlers do not have them; start them in `on_start`")


def _warn_of_hooks(registry: TypeRegistry) -> None:
    """Name the modules whose hooks do not run, because they declare no type."""
    taken = {*registry.hooks.start, *registry.hooks.stop}
    ignored = sorted(
        home.__name__ for home, hooks in DECLARED_HOOKS.items() if not {*hooks.start, *hooks.stop} <= taken
    )
    if ignored:
        log.warning("hooks_ignored", modules=ignored, advice="declare hooks in modules that TRACKER_TYPES names")
