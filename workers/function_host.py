"""A host of plain functions: runs one at a time, in its main thread."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections import deque
from types import FrameType
from typing import TYPE_CHECKING

from tracker.domain.type_registry import TypeRegistry
from workers.fork_limits import patiently
from workers.frames import (
    AttemptEnded,
    AttemptRefused,
    FrameReader,
    HostReady,
    Message,
    ProgressReport,
    RunAttempt,
    StopAttempt,
    encode,
    frame,
)
from workers.handler_call import exit_forked_child, flush_streams, handler_context
from workers.handler_outcome import (
    HandlerStopped,
    outcome_of_exception,
    outcome_of_return,
    send_outcome,
    with_members,
)
from workers.host import MAXRSS_UNIT
from workers.outcome import Outcome, Stopped
from workers.process_state import ProcessState

if TYPE_CHECKING:
    from workers.context import HandlerContext

READ_BYTES = 65536
"""How many bytes one read takes at most."""


class FunctionHost:
    """Runs functions in the main thread, in the order of their attempts. Another thread reads the manager's messages.

    To stop an attempt, the reading thread sends SIGUSR1 to the main thread, if the attempt is the current one. The
    attempt may end before the signal arrives. So the handler of the signal, which runs in the main thread, checks again
    that the current attempt is to stop, before it raises HandlerStopped.
    """

    def __init__(self, registry: TypeRegistry, channel: socket.socket) -> None:
        self._registry, self._channel = registry, channel
        self._queue: deque[RunAttempt | None] = deque()
        """Attempts that wait for the main thread; None after the last."""
        self._queued = threading.Semaphore(0)
        self._send_lock = threading.Lock()
        self._current: int | None = None
        """The attempt whose function runs now, and may be stopped."""
        self._reporting: int | None = None
        """The attempt whose progress reports are sent."""
        self._pid = os.getpid()
        self._context: HandlerContext | None = None
        signal.signal(signal.SIGUSR1, self._on_stop_signal)
        self._state = ProcessState()
        self._stops: set[int] = set()

    def serve(self) -> None:
        """Run attempts until the manager sends no more."""
        patiently(threading.Thread(target=self._read, daemon=True).start, "thread of a host")
        self._send(HostReady())
        while True:
            self._queued.acquire()
            if not self._queue:  # the reading thread has removed a stopped attempt
                continue
            attempt = self._queue.popleft()
            if attempt is None:
                return
            if time.monotonic() > attempt.begin_before:
                self._send(AttemptRefused(attempt.run_id))
                continue
            outcome = self._run(attempt)
            flush_streams()
            self._reporting = None
            peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
            send_outcome(self._send, attempt.run_id, outcome._replace(peak_rss=peak_rss))

    def _read(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = self._channel.recv(READ_BYTES)
            except OSError:
                data = b""
            for message in reader.feed(data):
                match message:
                    case RunAttempt():
                        self._enqueue(message)
                    case StopAttempt(run_id):
                        self._stop(run_id)
            if not data:
                self._enqueue(None)
                return

    def _enqueue(self, attempt: RunAttempt | None) -> None:
        self._queue.append(attempt)
        self._queued.release()

    def _stop(self, run_id: int) -> None:
        """Stop an attempt: remove it if it still waits, or signal the main thread if it is the current one."""
        self._stops.add(run_id)
        for attempt in list(self._queue):
            if attempt is not None and attempt.run_id == run_id:
                with contextlib.suppress(ValueError):  # the main thread has just taken it, and will see the stop
                    self._queue.remove(attempt)
                    self._stops.discard(run_id)
                    self._send(AttemptEnded(run_id, Stopped({})))
        if self._current == run_id:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _on_stop_signal(self, _signum: int, _frame: FrameType | None) -> None:
        context = self._context
        if self._current in self._stops and context is not None and not context.cancel_requested:
            context.cancel_requested = True
            raise HandlerStopped

    def _run(self, attempt: RunAttempt) -> Outcome:
        self._context = context = handler_context(attempt, self._send_progress)
        self._reporting = attempt.run_id
        entry = operation = None
        try:
            entry = self._registry[attempt.type]
            operation = entry.model.from_members(attempt.members, attempt.client_context)
            try:
                begun = time.perf_counter()
                self._current = attempt.run_id
                if self._current in self._stops:
                    self._on_stop_signal(signal.SIGUSR1, None)
                returned = self._state.new_context().run(entry.handler, operation, context) if entry.handler else None
            finally:
                self._current = None
                exit_forked_child(self._pid)
                self._state.restore(time.perf_counter() - begun)
            outcome = outcome_of_return(returned)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            self._current = None
            outcome = outcome_of_exception(entry, error, stopped=context.cancel_requested)
        self._stops.discard(attempt.run_id)
        return with_members(entry, operation, outcome)

    def _send_progress(self, report: ProgressReport) -> None:
        """Send a report. It may come from any thread, and is dropped when its attempt has ended."""
        with self._send_lock:
            if report.run_id == self._reporting:
                self._channel.sendall(frame([encode(report)]))

    def _send(self, message: Message) -> None:
        with self._send_lock:
            self._channel.sendall(frame([encode(message)]))
