"""A host's own process: it runs handlers, and knows nothing of Redis.

Orders come in as messages: an attempt to run (`ref`, `type`, `id`, …) or `{"stop": ref}`. Messages go out: progress
(`ref`, `progress`, `detail`) and for each attempt one outcome (`ref`, `outcome`, `result`, `members`, …), after which
nothing more comes of it. The host ends when its orders have.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import structlog

from tracker.domain.operation import Json
from tracker.domain.type_registry import TypeRegistry
from tracker.json_codec import encode
from tracker.runtime.background import run
from tracker.runtime.processes import die_with_parent
from workers.context import HandlerContext
from workers.frames import Line, Unframer, frame
from workers.host import RSS_UNIT
from workers.results import HandlerStopped, failed, returned, with_members

log = structlog.get_logger()

BLOCKED_AFTER = 1.0
"""Seconds without a turn of the loop after which a coroutine host says who blocks it."""
_CHUNK = 65536


def main(channel: socket.socket, registry: TypeRegistry, *, parent: int, concurrent: bool) -> NoReturn:
    """Run what the orders ask for, many coroutines at once or plain functions one by one; then end this process."""
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL, parent=parent)
        _stand_by()
        if concurrent:
            run(_Coroutines(registry).serve(channel))
        else:
            _Functions(registry, channel).serve()
        code = 0
    finally:
        flush()
        os._exit(code)


def _stand_by() -> None:
    """Let SIGTERM and SIGINT, which a whole control group may get, do nothing here: the manager decides what stops.

    What handlers start, by exec or by fork, gets them as usual.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
        os.register_at_fork(after_in_child=lambda signum=signum: signal.signal(signum, signal.SIG_DFL))


class _Coroutines:
    """Runs coroutine handlers concurrently."""

    def __init__(self, registry: TypeRegistry) -> None:
        self._registry = registry
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._contexts: dict[int, HandlerContext] = {}
        self._begun: set[int] = set()
        self._pid = os.getpid()
        self._turned = time.monotonic()

    async def serve(self, channel: socket.socket) -> None:
        """Take orders until their end, and wait for those that run."""
        self._loop = loop = asyncio.get_running_loop()
        self._line = Line(self._take, keep_open=True)
        await loop.create_unix_connection(lambda: self._line, sock=channel)
        threading.Thread(target=self._watch, args=(threading.main_thread().ident,), daemon=True).start()
        turning = asyncio.create_task(self._turn())
        await self._line.ended()
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        turning.cancel()
        await self._line.shut()
        flush()
        os._exit(0)  # threads and tasks that handlers left behind would hold up the end of the loop

    def _take(self, order: Json) -> None:
        if "stop" in order:
            context = self._contexts.get(order["stop"])
            if context is not None and not context.cancel_requested:
                context.cancel_requested = True
                if order["stop"] in self._begun:  # a task that is cancelled before its first step says nothing
                    self._tasks[order["stop"]].cancel()
            return
        ref = order["ref"]
        self._contexts[ref] = context = _context(order, self._say)
        self._tasks[ref] = asyncio.create_task(self._run(ref, order, context))

    async def _run(self, ref: int, order: Json, context: HandlerContext) -> None:
        entry = operation = None
        self._begun.add(ref)
        try:
            entry = self._registry[order["type"]]
            if context.cancel_requested:
                raise asyncio.CancelledError  # noqa: TRY301 - as if it had come at the handler's first step
            operation = entry.model.from_members(order["members"], order["client_context"])
            handler: Any = entry.handler
            try:
                result = await handler(operation, context)
            finally:
                _end_forked(self._pid)
            outcome = returned(result)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            outcome = failed(entry, error, stopped=context.cancel_requested)
        flush()
        self._line.send({"ref": ref, **with_members(entry, operation, outcome)})
        del self._tasks[ref], self._contexts[ref]
        self._begun.discard(ref)

    def _say(self, report: Json) -> None:
        """Send a report, from whatever thread it comes; one that comes after its attempt's outcome is dropped."""
        if threading.current_thread() is not threading.main_thread():
            self._loop.call_soon_threadsafe(self._say, report)
        elif report["ref"] in self._contexts:
            self._line.send(report)

    async def _turn(self) -> None:
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(BLOCKED_AFTER / 4)

    def _watch(self, loops_thread: int) -> None:
        """Say once per block which handlers there are, and where the loop's thread is."""
        told = 0.0
        while True:
            time.sleep(BLOCKED_AFTER / 4)
            turned = self._turned
            blocked = time.monotonic() - turned
            if blocked > BLOCKED_AFTER and told != turned:
                told = turned
                frames = traceback.format_stack(sys._current_frames()[loops_thread])  # noqa: SLF001 - how it is done
                running = [context.operation_id for context in list(self._contexts.values())]
                log.warning(
                    "loop_blocked", seconds=round(blocked, 1), operations=running[:20], stack="".join(frames[-8:])
                )


class _Functions:
    """Runs plain functions one by one, in the main thread; another thread takes the orders.

    A stop is a signal to this process itself, sent only while the attempt that it is for is the current one; the
    signal's handler, in the main thread, looks again. So a stop can hit no other attempt than its own.
    """

    def __init__(self, registry: TypeRegistry, channel: socket.socket) -> None:
        self._registry, self._channel = registry, channel
        self._orders: deque[Json | None] = deque()
        self._more = threading.Semaphore(0)
        self._sending = threading.Lock()
        self._current: int | None = None
        self._open: int | None = None
        self._pid = os.getpid()
        self._context: HandlerContext | None = None
        self._stops: set[int] = set()

    def serve(self) -> None:
        """Take orders until their end."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._more.acquire()
            if not self._orders:  # a stop took it back
                continue
            order = self._orders.popleft()
            if order is None:
                return
            outcome = self._perform(order)
            outcome["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
            flush()
            self._open = None
            self._send({"ref": order["ref"], **outcome})

    def _read(self) -> None:
        unframer = Unframer()
        while True:
            try:
                data = self._channel.recv(_CHUNK)
            except OSError:
                data = b""
            for order in unframer.feed(data):
                if "stop" in order:
                    self._ask(order["stop"])
                else:
                    self._orders.append(order)
                    self._more.release()
            if not data:
                self._orders.append(None)
                self._more.release()
                return

    def _ask(self, ref: int) -> None:
        """Stop an attempt: one that has not begun is taken back, the current one gets the signal."""
        self._stops.add(ref)
        for order in list(self._orders):
            if order is not None and order["ref"] == ref:
                with contextlib.suppress(ValueError):  # the main thread was faster, and will see the stop
                    self._orders.remove(order)
                    self._stops.discard(ref)
                    self._send({"ref": ref, "outcome": "stopped"})
        if self._current == ref:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        context = self._context
        if self._current in self._stops and context is not None and not context.cancel_requested:
            context.cancel_requested = True
            raise HandlerStopped

    def _perform(self, order: Json) -> Json:
        self._context = context = _context(order, self._say)
        self._open = order["ref"]
        entry = operation = None
        signal.signal(signal.SIGUSR1, self._stop)  # each time anew: the handler before may have changed that
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        try:
            entry = self._registry[order["type"]]
            operation = entry.model.from_members(order["members"], order["client_context"])
            try:
                self._current = order["ref"]
                if self._current in self._stops:
                    self._stop(signal.SIGUSR1, None)
                result = entry.handler(operation, context) if entry.handler else None
            finally:
                self._current = None
                _end_forked(self._pid)
            outcome = returned(result)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            self._current = None
            outcome = failed(entry, error, stopped=context.cancel_requested)
        self._stops.discard(order["ref"])
        return with_members(entry, operation, outcome)

    def _say(self, report: Json) -> None:
        """Send a report, from whatever thread it comes; one that comes after its attempt's outcome is dropped."""
        with self._sending:
            if report["ref"] == self._open:
                self._channel.sendall(frame([encode(report)]))

    def _send(self, message: Json) -> None:
        with self._sending:
            self._channel.sendall(frame([encode(message)]))


def _context(order: Json, send: Callable[[Json], None]) -> HandlerContext:
    ref = order["ref"]

    def report(line: Json) -> None:
        if not isinstance(line["detail"], str):
            raise TypeError(f"detail must be a text, not {type(line['detail']).__name__}")
        send({"ref": ref, **line})

    return HandlerContext(
        operation_id=order["id"],
        call_id=order["call_id"],
        attempt=order["attempt"],
        key=order["key"],
        report=report,
    )


def _end_forked(host: int) -> None:
    """End a child that a handler forked and that comes back from it: it must not go on as a second host."""
    if os.getpid() != host:
        error = sys.exception()
        flush()
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            os._exit(error.code)
        os._exit(0 if error is None else 1)


def flush() -> None:
    """Let out what waits in the standard streams: after a fork it would come twice, after a kill not at all."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
