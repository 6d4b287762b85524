"""A host of coroutine handlers: runs many at once, on one event loop."""

import asyncio
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

import structlog

from tracker.domain.type_registry import TypeRegistry
from workers.connection import HostConnection
from workers.context import HandlerContext
from workers.fork_limits import patiently
from workers.frames import AttemptRefused, HostReady, Message, ProgressReport, RunAttempt, StopAttempt
from workers.handler_call import exit_forked_child, flush_streams, handler_context
from workers.handler_outcome import outcome_of_exception, outcome_of_return, send_outcome, with_members
from workers.host_hooks import run_exit_functions, run_start_hooks, run_stop_hooks

log = structlog.get_logger()

BLOCKED_AFTER = 1.0
"""The longest time that a handler can block the event loop without being logged, in seconds."""
CHECK_INTERVAL = BLOCKED_AFTER / 4
"""Time between two checks for a blocked loop, in seconds."""
LOGGED_OPERATIONS = 20
"""How many operations are named at most when the loop is blocked."""
LOGGED_FRAMES = 8
"""How many frames of the blocked thread's stack are logged at most, the innermost ones."""
AnyCoroutine = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
"""What a task can run."""
_RUN_ID: ContextVar[int] = ContextVar("run_id")
"""The attempt that the present code belongs to. Tasks that a handler starts inherit it."""
_EXITS = (SystemExit, KeyboardInterrupt)
"""Exceptions that asyncio does not leave in the task that raised them. It raises them from the event loop, too."""


class _HandlersTask(asyncio.Task[Any]):
    """A task that a handler has started."""

    run_id: int


class CoroutineHost:
    """Runs each attempt as a task. To stop an attempt, it cancels the task.

    A task that a handler has started may raise SystemExit. asyncio then stops the event loop. The host ends the attempt
    that the task belongs to, and runs the loop again.
    """

    _connection: HostConnection
    _loop: asyncio.AbstractEventLoop

    def __init__(self, registry: TypeRegistry, note_turn: Callable[[int], None]) -> None:
        self._registry, self._note_turn = registry, note_turn
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._contexts: dict[int, HandlerContext] = {}
        self._begun: set[int] = set()
        """The attempts whose task has taken its first step."""
        self._pid = os.getpid()
        self._task_exit: BaseException | None = None
        """The last exception of `_EXITS` that a task of an attempt has raised."""
        self._exited: dict[int, BaseException] = {}
        """The attempts that such an exception ends, with the exception."""
        self._last_turn = time.monotonic()

    def run(self, channel: socket.socket, loop: asyncio.AbstractEventLoop) -> NoReturn:
        """Serve the manager on this loop, and end the process."""
        loop.set_task_factory(self._make_task)
        serving = loop.create_task(self.serve(channel))
        while True:
            try:
                loop.run_until_complete(serving)
            except _EXITS as error:
                exit_forked_child(self._pid)
                if serving.done():
                    raise
                loop.call_soon(self._check_exit, error)  # runs after the callbacks of the task that raised it

    async def serve(self, channel: socket.socket) -> None:
        """Run attempts until the manager sends no more, wait for those that still run, and end the process."""
        self._loop = loop = asyncio.get_running_loop()
        self._connection = HostConnection(self._on_message, keep_open=True)
        await loop.create_unix_connection(lambda: self._connection, sock=channel)
        loop_thread = threading.main_thread().ident
        watcher = threading.Thread(target=self._watch_loop, args=(loop_thread,), daemon=True)
        patiently(watcher.start, "thread of a host")
        turns = asyncio.create_task(self._note_turns())
        await run_start_hooks(self._registry.hooks)
        self._connection.send(HostReady())
        await self._connection.peer_finished()
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        await self._connection.close()
        await run_stop_hooks(self._registry.hooks)
        turns.cancel()
        run_exit_functions()
        os._exit(0)  # the loop would not end while a handler has left a thread or a task running

    def _on_message(self, message: Message) -> None:
        match message:
            case RunAttempt(run_id=run_id) if time.monotonic() > message.begin_before:
                self._connection.send(AttemptRefused(run_id))
            case RunAttempt(run_id=run_id):
                self._contexts[run_id] = context = handler_context(message, self._send_progress)
                self._tasks[run_id] = asyncio.create_task(self._run(message, context))
            case StopAttempt(run_id):
                self._stop(run_id)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: AnyCoroutine, /, **options: Any
    ) -> "asyncio.Task[Any]":
        run_id = _RUN_ID.get(None)
        if run_id is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        task = _HandlersTask(coroutine, loop=loop, **options)
        task.run_id = run_id
        task.add_done_callback(partial(self._on_task_done, run_id))
        return task

    def _on_task_done(self, run_id: int, task: "asyncio.Task[Any]") -> None:
        """End the attempt of a task that a handler has started, if the task's exception has stopped the loop."""
        error: Any = task._exception  # noqa: SLF001 - `exception()` counts as retrieval
        if isinstance(error, _EXITS):
            self._task_exit = error
            log.warning("task_exited", error=type(error).__name__, attempt_running=run_id in self._tasks)
            if run_id in self._tasks:
                self._exited[run_id] = error
                self._tasks[run_id].cancel()

    def _check_exit(self, error: BaseException) -> None:
        """End the process when a callback, and no task, has stopped the loop: it may belong to any attempt."""
        if self._task_exit is not error:
            log.error("loop_exited", exc_info=error)
            flush_streams()
            os._exit(1)
        self._task_exit = None

    def _stop(self, run_id: int) -> None:
        context = self._contexts.get(run_id)
        if context is None or context.cancel_requested:
            return
        context.cancel_requested = True
        if run_id in self._begun:  # cancelled before its first step, a task would end without an outcome
            self._tasks[run_id].cancel()

    async def _run(self, attempt: RunAttempt, context: HandlerContext) -> None:
        run_id = attempt.run_id
        _RUN_ID.set(run_id)
        entry = operation = None
        self._begun.add(run_id)
        try:
            entry = self._registry[attempt.type]
            if context.cancel_requested:
                raise asyncio.CancelledError  # noqa: TRY301 - as if the handler had been cancelled at its first step
            operation = entry.model.from_members(attempt.members, attempt.client_context)
            handler: Any = entry.handler
            try:
                returned = await handler(operation, context)
            finally:
                exit_forked_child(self._pid)
            if run_id in self._exited:  # the handler has ignored its cancellation
                raise self._exited[run_id]  # noqa: TRY301 - as if the handler had raised it
            outcome = outcome_of_return(returned)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            error = self._exited.pop(run_id, error)
            outcome = outcome_of_exception(entry, error, stopped=context.cancel_requested)
        flush_streams()
        send_outcome(self._connection.send, run_id, with_members(entry, operation, outcome))
        del self._tasks[run_id], self._contexts[run_id]
        self._begun.discard(run_id)

    def _send_progress(self, report: ProgressReport) -> None:
        """Send a report. It may come from any thread, and is dropped when its attempt has ended."""
        if threading.current_thread() is not threading.main_thread():
            self._loop.call_soon_threadsafe(self._send_progress, report)
        elif report.run_id in self._contexts:
            self._connection.send(report)

    async def _note_turns(self) -> None:
        while True:
            self._last_turn = time.monotonic()
            self._note_turn(0)
            await asyncio.sleep(CHECK_INTERVAL)

    def _current_run_id(self) -> int:
        """The attempt whose code the loop runs now, as another thread sees it; 0 if it is not known."""
        task = asyncio.current_task(self._loop)
        if isinstance(task, _HandlersTask):
            return task.run_id
        return next((run_id for run_id, each in list(self._tasks.items()) if each is task), 0)

    def _watch_loop(self, loop_thread: int) -> None:
        """Note which attempt blocks the loop, and log the stack once each time. Runs in a thread of its own."""
        logged = 0.0
        while True:
            time.sleep(CHECK_INTERVAL)
            last_turn = self._last_turn
            blocked = time.monotonic() - last_turn
            if blocked < BLOCKED_AFTER / 2:
                continue
            blocker = self._current_run_id()
            if blocker and last_turn == self._last_turn:
                self._note_turn(blocker)
            if blocked > BLOCKED_AFTER and logged != last_turn:
                logged = last_turn
                stack = traceback.format_stack(sys._current_frames()[loop_thread])  # noqa: SLF001 - the only way there is
                contexts = dict(self._contexts)
                running = [context.operation_id for context in contexts.values()]
                log.warning(
                    "loop_blocked",
                    seconds=round(blocked, 1),
                    by=contexts[blocker].operation_id if blocker in contexts else None,
                    operations=running[:LOGGED_OPERATIONS],
                    stack="".join(stack[-LOGGED_FRAMES:]),
                )
