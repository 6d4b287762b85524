"""Responses of URL handlers: a result, a rejection, a request to retry, or a response that cannot be used."""

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
"""How many bytes of a response's body are read at most."""
MESSAGE_SHOWN = 1024
"""How many characters of a response's message are kept at most."""
LONGEST_RETRY_AFTER = 86_400.0
"""The longest wait that a `Retry-After` can ask for, in seconds. A longer wait is shortened to it."""

TEMPORARY = frozenset({408, 425})
"""4xx statuses that say nothing about the operation (RFC 9110, 15.5.9; RFC 8470, 5.2). The attempt fails, as after a
5xx, and is retried."""
RETRY_LATER = frozenset({429, 503})
"""Statuses that ask for another attempt and may say when (RFC 6585, 4; RFC 9110, 15.6.4)."""


class HandlerUnreachable(TrackerError):
    """The URL handler did not respond: no such host, no connection, no response in time, or a broken connection."""


class BadAnswer(TrackerError):
    """The URL handler's response is neither a result, nor a rejection, nor a request to retry."""


@dataclass(frozen=True, slots=True)
class HandlerResponse:
    """A response as it was received. A body of more than ANSWER_LIMIT bytes is cut to ANSWER_LIMIT + 1 bytes."""

    status: int
    media_type: str
    retry_after: str
    body: bytes


def outcome(response: HandlerResponse, operation: Operation) -> ResultInfo | None:
    """Translate a response to what a Python handler would return. Sets the result members of the body on the operation.

    Raises Rejected or Retry, as a handler does, or BadAnswer.
    """
    match response.status // 100:
        case 2:
            return _result(response, operation)
        case _ if response.status in RETRY_LATER:
            raise Retry(_message(response), after=_wait(response.retry_after))
        case 4 if response.status not in TEMPORARY:
            raise _rejection(response)
        case 3:
            raise BadAnswer(f"The URL handler answered {response.status}; redirects are not followed.")
        case _:
            raise BadAnswer(f"The URL handler answered {response.status}.")


def _result(response: HandlerResponse, operation: Operation) -> ResultInfo | None:
    if len(response.body) > ANSWER_LIMIT:
        raise BadAnswer(f"The URL handler answered more than {ANSWER_LIMIT} bytes.")
    body = _object(response)
    if body is None:
        raise BadAnswer("The URL handler's answer is not a JSON object.")
    result = _result_info(body)
    if result is not None and result.code // 100 != DONE.code // 100:
        raise BadAnswer(f"The URL handler answered {response.status}, but its resultInfo has the code {result.code}.")
    _set_members(operation, body)
    return result


def _result_info(body: Json) -> ResultInfo | None:
    info = body.get("resultInfo")
    if info is None:
        return None
    try:
        return ResultInfo.model_validate(info)
    except ValidationError as error:
        raise _unusable("resultInfo", error) from error


def _set_members(operation: Operation, body: Json) -> None:
    """Set the result members that the type declares. Other members are ignored, as some servers echo the operation."""
    results = operation.result_members()
    for name, info in type(operation).model_fields.items():
        member = info.alias or name
        if member in results and member in body:
            try:
                setattr(operation, name, body[member])
            except ValidationError as error:
                raise _unusable(member, error) from error


def _unusable(member: str, error: ValidationError) -> BadAnswer:
    """The error for a member of a response that its model does not accept."""
    first = error.errors(include_url=False)[0]
    return BadAnswer(f"The URL handler's answer cannot be used: {member}: {first['msg']}")


def _rejection(response: HandlerResponse) -> Rejected:
    """The rejection that a 4xx response means. Its `resultInfo`, if it has one, gives code, subcode and message."""
    try:
        result = _result_info(_object(response) or {})
    except BadAnswer:
        result = None
    if result is None:
        return Rejected(_message(response))
    code = result.code if result.code // 100 == REJECTED_CODE // 100 else REJECTED_CODE
    return Rejected(result.message or _message(response), result.subcode, code=code)


def _message(response: HandlerResponse) -> str:
    """The message of a response: that of Graph's error body, of a problem (RFC 9457), or plain text."""
    body = _object(response) or {}
    error = body.get("error")
    texts = [error.get("message") if isinstance(error, dict) else error, body.get("detail"), body.get("title")]
    if response.media_type == "text/plain":
        texts.append(response.body.decode("utf-8", "replace").strip())
    shown = next((text for text in texts if text and isinstance(text, str)), None)
    return (shown or f"The URL handler answered {response.status}.")[:MESSAGE_SHOWN]


def _object(response: HandlerResponse) -> Json | None:
    """The body as a JSON object. Empty when there is no JSON body; None when the body is JSON but not an object."""
    kind = response.media_type
    if not response.body.strip() or not (kind in {"", "application/json"} or kind.endswith("+json")):
        return {}
    try:
        value = from_json(response.body, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _wait(retry_after: str) -> float | None:
    """The wait that a `Retry-After` asks for, in seconds (RFC 9110, 10.2.3). None when it cannot be read."""
    if re.fullmatch(r"[0-9]+", retry_after):
        return min(float(retry_after), LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return min(max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()), LONGEST_RETRY_AFTER)
