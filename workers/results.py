"""What a handler did, as the message that its manager gets."""

import asyncio
import json
import traceback
from typing import Any

from tracker.bodies.members import MEMBERS_LIMIT
from tracker.domain.operation import DONE, RAISED, Json, Operation, ResultInfo
from tracker.domain.type_registry import OperationType, Rejected, Retry
from tracker.errors import TrackerError

TRACEBACK_LIMIT = 8_192
"""Characters of a traceback that are kept for the log."""


class HandlerStopped(BaseException):
    """Raised inside a plain function that has to stop; not an Exception, so that few handlers swallow it."""


_DONE: Json = {"outcome": "succeeded", "result": DONE.model_dump()}


def returned(result: Any) -> Json:
    """The outcome of a handler that returned. Raises TypeError when that is no result."""
    if result is None:
        return _DONE
    if not isinstance(result, ResultInfo):
        raise TypeError(f"the handler returned {type(result).__name__}, not None or a ResultInfo")
    return {"outcome": "succeeded", "result": result.model_dump()}


def failed(entry: OperationType | None, error: BaseException, *, stopped: bool) -> Json:
    """The outcome of a handler that raised, whatever that is; `stopped` says whether it had been asked to stop.

    There is no `entry` when the host does not have the type.
    """
    try:
        return _failed(entry, error, stopped=stopped)
    except Exception as unusable:  # noqa: BLE001 - such as a Retry whose message is no text
        return _raised(unusable)


def _failed(entry: OperationType | None, error: BaseException, *, stopped: bool) -> Json:
    match error:
        case Rejected():
            return {"outcome": "rejected", "result": error.result.model_dump()}
        case Retry():
            return {"outcome": "retry", "after": error.after, "result": _with_message(error.message)}
        case HandlerStopped() | asyncio.CancelledError() if stopped:
            return {"outcome": "stopped"}
        case _:
            return _raised(error, retryable=entry is None or _again(entry, error))


def _again(entry: OperationType, error: BaseException) -> bool:
    return not isinstance(error, entry.never_retry) and (not entry.retry_on or isinstance(error, entry.retry_on))


def _raised(error: BaseException, *, retryable: bool = True) -> Json:
    """500/1 names the error's class, or says what a deliberate error says; text and traceback are for the log."""
    said = error.message if isinstance(error, TrackerError) else f"{type(error).__name__}."
    return {
        "outcome": "raised",
        "retryable": retryable,
        "result": _with_message(f"The handler failed: {said}"),
        "traceback": "".join(traceback.format_exception(error))[-TRACEBACK_LIMIT:],
    }


def _with_message(message: str) -> Json:
    return {**RAISED.model_dump(), "message": message[:1024]}


def with_members(entry: OperationType | None, operation: Operation | None, outcome: Json) -> Json:
    """The outcome, with the result members that the handler set; members that cannot be kept make it a failure."""
    if entry is None or operation is None:
        return outcome
    try:
        return {**outcome, "members": _result_members(entry, operation)}
    except Exception as error:  # noqa: BLE001 - a type's own serializers may raise anything
        return _raised(error)


def _result_members(entry: OperationType, operation: Operation) -> Json:
    """The result members that the handler set. Raises ValueError when they are no JSON or take too much room."""
    names = entry.model.result_members()
    if not names:
        return {}
    dumped = operation.model_dump(mode="json", by_alias=True)
    members = {name: dumped[name] for name in names if dumped.get(name) is not None}
    size = len(json.dumps(members, allow_nan=False).encode())
    if size > MEMBERS_LIMIT:
        raise ValueError(f"the result members take {size} bytes, at most {MEMBERS_LIMIT} are kept")
    return members
