"""Messages between a manager and its hosts, and their form on the socket.

The manager sends `RunAttempt` and `StopAttempt`. A host sends any number of `ProgressReport`, and one `AttemptEnded`
for each `RunAttempt`. On the socket a message is a JSON array: the name of its class, then its fields in the order in
which the class declares them. In `AttemptEnded` the class is that of the outcome. Messages that are sent together
share a frame: a JSON array of them, after its length.
"""

from typing import Any, NamedTuple

from tracker import json_codec
from tracker.domain.operation import Json
from tracker.store.codec import result_of
from workers.outcome import Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded, Unusable

HEADER_BYTES = 4
"""Bytes of the length before a frame, big-endian."""


class RunAttempt(NamedTuple):
    """Run the handler of one attempt. `run_id` names the attempt in all other messages about it."""

    run_id: int
    type: str
    operation_id: str
    call_id: str
    attempt: int
    key: str
    members: Json
    client_context: str | None


class StopAttempt(NamedTuple):
    """Ask the handler of an attempt to stop. The host ignores it for an attempt that has ended."""

    run_id: int


class ProgressReport(NamedTuple):
    """The handler's latest progress. `percent` is None until the handler reports a number."""

    run_id: int
    percent: int | None
    detail: str


class AttemptEnded(NamedTuple):
    """The outcome of an attempt. The host sends nothing else about the attempt after it."""

    run_id: int
    outcome: Outcome


Message = RunAttempt | StopAttempt | ProgressReport | AttemptEnded

_MESSAGES: dict[str, Any] = {cls.__name__: cls for cls in (RunAttempt, StopAttempt, ProgressReport)}
_RESULTS: dict[str, Any] = {cls.__name__: cls for cls in (Succeeded, Rejected, RetryRequested, Raised)}
"""Outcomes whose first field is a `ResultInfo`."""


def encode(message: Message) -> bytes:
    """Write a message, for `frame`. Raises TypeError for a value that has no form in JSON."""
    if not isinstance(message, AttemptEnded):
        return json_codec.encode([type(message).__name__, *message])
    run_id, outcome = message
    name = type(outcome).__name__
    fields: list[Any] = list(outcome)
    if name in _RESULTS:
        result = fields[0]
        fields[0] = (result.code, result.subcode, result.message)
    return json_codec.encode([name, run_id, *fields])


def frame(messages: list[bytes]) -> bytes:
    """Put encoded messages into one frame."""
    body = b"[" + b",".join(messages) + b"]"
    return len(body).to_bytes(HEADER_BYTES) + body


class FrameReader:
    """Reads messages from bytes that arrive in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages of the frames that these bytes complete."""
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            end = start + HEADER_BYTES + int.from_bytes(self._buffer[start : start + HEADER_BYTES])
            if len(self._buffer) < end:
                break
            body = self._buffer[start + HEADER_BYTES : end].decode()
            messages += [_message_of(*written) for written in json_codec.decode(body)]
            start = end
        del self._buffer[:start]
        return messages


def _message_of(name: str, run_id: int, *fields: Any) -> Message:
    message: Any = _MESSAGES.get(name)
    return message(run_id, *fields) if message else AttemptEnded(run_id, _outcome_of(name, *fields))


def _outcome_of(name: str, *fields: Any) -> Outcome:
    """An outcome that a host sent. A handler that made its result without validation can put anything into it."""
    try:
        if name == Stopped.__name__:
            return Stopped(*fields)
        result, *others = fields
        outcome: Outcome = _RESULTS[name](result_of(*result), *others)
    except (TypeError, ValueError, KeyError) as error:
        return Unusable({}, None, error)
    return outcome
