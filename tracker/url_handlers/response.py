"""What the answer of a URL handler means: a result, a refusal, a wish for another attempt, or nothing usable."""

import re
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from pydantic import ValidationError
from pydantic_core import from_json

from tracker.domain.operation import DONE, REJECTED_CODE, Json, Operation, ResultInfo
from tracker.domain.type_registry import Rejected, Retry
from tracker.errors import TrackerError

ANSWER_LIMIT = 64 * 1024
"""Bytes of an answer's body that are read."""
MESSAGE_SHOWN = 1024
"""Characters of an answer's message that are kept."""
LONGEST_WAIT = 86_400.0
"""Seconds that a `Retry-After` may ask for; one that asks for more gets these."""

PASSING = frozenset({408, 425})
"""4xx answers that say nothing about the operation (RFC 9110, 15.5.9; RFC 8470, 5.2): they count as a 5xx does."""
LATER = frozenset({429, 503})
"""Answers that ask for another attempt, and may say when (RFC 6585, 4; RFC 9110, 15.6.4)."""


class HandlerUnreachable(TrackerError):
    """There was no answer: no such host, no connection, nothing in time, or an answer that broke off."""


class BadAnswer(TrackerError):
    """An answer that is neither a result nor a refusal: another status, or a body that is not as it has to be."""


@dataclass(frozen=True, slots=True)
class HandlerResponse:
    """What came back. A body that was too long is one byte longer than the limit."""

    status: int
    media_type: str
    retry_after: str
    body: bytes


def outcome(answer: HandlerResponse, operation: Operation) -> ResultInfo | None:
    """What a handler returns for such an answer; the result members in it are set on the operation.

    Raises Rejected, Retry or BadAnswer.
    """
    match answer.status // 100:
        case 2:
            return _result(answer, operation)
        case _ if answer.status in LATER:
            raise Retry(_message(answer), after=_wait(answer.retry_after))
        case 4 if answer.status not in PASSING:
            raise _rejection(answer)
        case 3:
            raise BadAnswer(f"The URL handler answered {answer.status}; redirects are not followed.")
        case _:
            raise BadAnswer(f"The URL handler answered {answer.status}.")


def _result(answer: HandlerResponse, operation: Operation) -> ResultInfo | None:
    if len(answer.body) > ANSWER_LIMIT:
        raise BadAnswer(f"The URL handler answered more than {ANSWER_LIMIT} bytes.")
    told = _object(answer)
    if told is None:
        raise BadAnswer("The URL handler's answer is not a JSON object.")
    result = _result_info(told)
    if result is not None and result.code // 100 != DONE.code // 100:
        raise BadAnswer(f"The URL handler answered {answer.status}, but its resultInfo has the code {result.code}.")
    _set_members(operation, told)
    return result


def _result_info(told: Json) -> ResultInfo | None:
    info = told.get("resultInfo")
    if info is None:
        return None
    try:
        return ResultInfo.model_validate(info)
    except ValidationError as error:
        raise _unusable("resultInfo", error) from error


def _set_members(operation: Operation, told: Json) -> None:
    """Set what the type declares as results; whatever else is there, the operation sent back perhaps, is passed by."""
    results = operation.result_members()
    for name, info in type(operation).model_fields.items():
        member = info.alias or name
        if member in results and member in told:
            try:
                setattr(operation, name, told[member])
            except ValidationError as error:
                raise _unusable(member, error) from error


def _unusable(member: str, error: ValidationError) -> BadAnswer:
    first = error.errors(include_url=False)[0]
    return BadAnswer(f"The URL handler's answer cannot be used: {member}: {first['msg']}")


def _rejection(answer: HandlerResponse) -> Rejected:
    """A refusal's `resultInfo` says as much as a handler's own `Rejected` could."""
    try:
        result = _result_info(_object(answer) or {})
    except BadAnswer:
        result = None
    if result is None:
        return Rejected(_message(answer))
    code = result.code if result.code // 100 == REJECTED_CODE // 100 else REJECTED_CODE
    return Rejected(result.message or _message(answer), result.subcode, code=code)


def _message(answer: HandlerResponse) -> str:
    """The text that an answer has for people: Graph's error, a problem of RFC 9457, or plain text."""
    told = _object(answer) or {}
    error = told.get("error")
    texts = [error.get("message") if isinstance(error, dict) else error, told.get("detail"), told.get("title")]
    if answer.media_type == "text/plain":
        texts.append(answer.body.decode("utf-8", "replace").strip())
    shown = next((text for text in texts if text and isinstance(text, str)), None)
    return (shown or f"The URL handler answered {answer.status}.")[:MESSAGE_SHOWN]


def _object(answer: HandlerResponse) -> Json | None:
    """The body as a JSON object: empty when there is none, or one of another type; None when it is something else."""
    kind = answer.media_type
    if not answer.body.strip() or not (kind in {"", "application/json"} or kind.endswith("+json")):
        return {}
    try:
        value = from_json(answer.body, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _wait(retry_after: str) -> float | None:
    """Seconds that a `Retry-After` asks for (RFC 9110, 10.2.3); None when it cannot be read."""
    if re.fullmatch(r"[0-9]+", retry_after):
        return min(float(retry_after), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return min(max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()), LONGEST_WAIT)
