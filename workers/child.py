"""The handler's own process: one attempt, then it ends.

It is forked by the process that runs the attempt, told what to do in one line of JSON, answers with progress
lines and one line with the outcome, and shares nothing else. SIGTERM means "stop": a coroutine is cancelled, a
plain function gets `Stopped` raised where it is.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

from pydantic import ValidationError

from tracker.drafts import MEMBERS_LIMIT
from tracker.model import DONE, RAISED, Json, Operation, ResultInfo
from tracker.processes import die_with_parent
from tracker.types import Catalogue, OperationType, Rejected, Retry
from workers.context import HandlerContext

TRACEBACK_LIMIT = 8_192


class Stopped(BaseException):
    """Raised inside a plain function that has to stop; not an Exception, so that few handlers swallow it."""


def main(channel: socket.socket, catalogue: Catalogue, *, parent: int) -> NoReturn:
    """Run the handler that the first line asks for, answer, and end this process.

    Expects SIGTERM to be blocked; it is let in while the handler runs, and a stop that came before it counts.
    """
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL, parent=parent)
        with channel.makefile("rb") as lines:
            order = lines.readline()
        if order:
            outcome = _perform(json.loads(order), channel, catalogue)
            _flush()  # whoever reads the outcome ends this process
            _send(channel, outcome)
        code = 0
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _perform(order: Json, channel: socket.socket, catalogue: Catalogue) -> Json:
    entry = catalogue[order["type"]]
    context = HandlerContext(
        operation_id=order["id"],
        call_id=order["call_id"],
        attempt=order["attempt"],
        key=order["key"],
        report=lambda line: _send(channel, line),
    )
    try:
        operation = entry.model.from_members(order["members"], order["client_context"])
    except ValidationError as error:
        return _raised(error)
    outcome = _outcome(entry, operation, context)
    try:
        return {**outcome, "members": _result_members(entry, operation)}
    except ValueError as error:
        return _raised(error)


def _outcome(entry: OperationType, operation: Operation, context: HandlerContext) -> Json:
    try:
        result = _call(entry, operation, context)
    except Rejected as rejected:
        return {"outcome": "rejected", "result": rejected.result.model_dump()}
    except Retry as retry:
        return {"outcome": "retry", "after": retry.after, "result": _with_message(retry.message)}
    except (Stopped, asyncio.CancelledError) as stopped:
        return {"outcome": "stopped"} if context.cancel_requested else _raised(stopped)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
        return _raised(error)
    if result is not None and not isinstance(result, ResultInfo):
        return _raised(TypeError(f"the handler returned {type(result).__name__}, not None or a ResultInfo"))
    return {"outcome": "succeeded", "result": (result or DONE).model_dump()}


def _call(entry: OperationType, operation: Operation, context: HandlerContext) -> Any:
    if entry.handler is None:
        raise LookupError(f"{entry.name} has no handler here")
    if entry.is_coroutine:
        return asyncio.run(_await(entry, operation, context))

    def stop(_signum: int, _frame: FrameType | None) -> None:
        if not context.cancel_requested:
            context.cancel_requested = True
            raise Stopped

    signal.signal(signal.SIGTERM, stop)
    try:
        _let_stops_in()
        return entry.handler(operation, context)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


async def _await(entry: OperationType, operation: Operation, context: HandlerContext) -> Any:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    handler: Any = entry.handler

    def stop() -> None:
        if not context.cancel_requested:
            context.cancel_requested = True
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    _let_stops_in()
    return await handler(operation, context)


def _let_stops_in() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _result_members(entry: OperationType, operation: Operation) -> Json:
    """The result members that the handler set. Raises ValueError when they are no JSON or take too much room."""
    names = entry.model.result_members()
    dumped = operation.model_dump(mode="json", by_alias=True)
    members = {name: dumped[name] for name in names if dumped.get(name) is not None}
    size = len(json.dumps(members, allow_nan=False).encode())
    if size > MEMBERS_LIMIT:
        raise ValueError(f"the result members take {size} bytes, at most {MEMBERS_LIMIT} are kept")
    return members


def _raised(error: BaseException) -> Json:
    """500/1 names the error's class; its text and traceback are for the log."""
    text = "".join(traceback.format_exception(error))[-TRACEBACK_LIMIT:]
    return {
        "outcome": "raised",
        "result": _with_message(f"The handler failed: {type(error).__name__}."),
        "traceback": text,
    }


def _with_message(message: str) -> Json:
    return {**RAISED.model_dump(), "message": message[:1024]}


def _send(channel: socket.socket, line: Json) -> None:
    """One line of JSON. Half a surrogate pair (a file name that is no UTF-8) becomes "?": Redis stores UTF-8."""
    channel.sendall(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
