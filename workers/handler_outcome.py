"""The outcome of a handler, from what it returned or raised."""

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import Any

from tracker.bodies.members import MEMBERS_LIMIT
from tracker.domain.operation import DONE, RAISED, Json, Operation, ResultInfo
from tracker.domain.type_registry import OperationType, Rejected, Retry
from tracker.errors import TrackerError
from workers import outcome as outcomes
from workers.frames import AttemptEnded
from workers.outcome import Outcome, Raised, RetryRequested, Stopped, Succeeded

TRACEBACK_LIMIT = 8_192
"""How many characters of a traceback are logged at most, the last ones."""
EXCEPTION_MESSAGE_LIMIT = 1024
"""How many characters of an exception's message become the message of the result, at most."""


class HandlerStopped(BaseException):
    """Raised inside a plain function to stop it. It is no Exception, so that `except Exception` does not catch it."""


def outcome_of_return(returned: Any) -> Outcome:
    """The outcome of a handler that returned this value. Raises TypeError unless it is None or a ResultInfo."""
    if returned is None:
        return Succeeded(DONE, {})
    if not isinstance(returned, ResultInfo):
        raise TypeError(f"the handler returned {type(returned).__name__}, not None or a ResultInfo")
    return Succeeded(returned, {})


def outcome_of_exception(entry: OperationType | None, error: BaseException, *, stopped: bool) -> Outcome:
    """The outcome of a handler that raised this exception, whatever it is.

    `entry` is None when the host does not have the operation's type. `stopped` says whether the host was asked to stop
    the handler.
    """
    try:
        return _outcome_of(entry, error, stopped=stopped)
    except Exception as unusable:  # noqa: BLE001 - such as a Retry whose message is no text
        return _raised(unusable, retryable=True)


def send_outcome(send: Callable[[AttemptEnded], None], run_id: int, outcome: Outcome) -> None:
    """Send the outcome of an attempt. If JSON has no form for it, send `Raised`: another attempt would be no better."""
    try:
        send(AttemptEnded(run_id, outcome))
    except TypeError as error:
        send(AttemptEnded(run_id, _raised(error, retryable=False)))


def _outcome_of(entry: OperationType | None, error: BaseException, *, stopped: bool) -> Outcome:
    match error:
        case Rejected(result=ResultInfo() as result):
            return outcomes.Rejected(result, {})
        case Retry():
            return RetryRequested(_with_message(error.message), {}, error.after)
        case HandlerStopped() | asyncio.CancelledError() if stopped:
            return Stopped({})
        case _:
            return _raised(error, retryable=entry is None or _is_retryable(entry, error))


def _is_retryable(entry: OperationType, error: BaseException) -> bool:
    return not isinstance(error, entry.never_retry) and (not entry.retry_on or isinstance(error, entry.retry_on))


def _raised(error: BaseException, *, retryable: bool) -> Raised:
    """500/1. Clients see the text of our own errors, and of any other exception only the name of its class."""
    reason = error.message if isinstance(error, TrackerError) else f"{type(error).__name__}."
    result = _with_message(f"The handler failed: {reason}")
    return Raised(result, {}, retryable, "".join(traceback.format_exception(error))[-TRACEBACK_LIMIT:])


def _with_message(message: object) -> ResultInfo:
    """500/1 with this message. Raises TypeError for a message that is no text."""
    if not isinstance(message, str):
        raise TypeError(f"the message is no text but {type(message).__name__}")
    return RAISED.model_copy(update={"message": message[:EXCEPTION_MESSAGE_LIMIT]})


def with_members(entry: OperationType | None, operation: Operation | None, outcome: Outcome) -> Outcome:
    """The outcome with the result members that the handler set; `Raised` if they cannot be stored."""
    if entry is None or operation is None:
        return outcome
    try:
        members = _result_members(entry, operation)
    except Exception as error:  # noqa: BLE001 - the type's own serializers may raise anything
        return _raised(error, retryable=True)
    return outcome._replace(members=members) if members else outcome


def _result_members(entry: OperationType, operation: Operation) -> Json:
    """The result members that the handler set. Raises ValueError when they are no JSON or larger than the limit."""
    names = entry.model.result_members()
    if not names:
        return {}
    dumped = operation.model_dump(mode="json", by_alias=True)
    members = {name: dumped[name] for name in names if dumped.get(name) is not None}
    size = len(json.dumps(members, allow_nan=False).encode())
    if size > MEMBERS_LIMIT:
        raise ValueError(f"the result members take {size} bytes, at most {MEMBERS_LIMIT} are kept")
    return members
