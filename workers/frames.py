"""Messages between a manager and its hosts, and their form on the socket.

A host first sends `HostReady`. The manager sends `RunAttempt` and `StopAttempt`. For each `RunAttempt` a host sends any
number of `ProgressReport` and then one `AttemptEnded`, or `AttemptRefused` only.

On the socket a message is a JSON array: the name of its class, then its fields in the order in which the class declares
them. An `AttemptEnded` is written as its outcome: the name of the outcome's class, the `run_id`, then the outcome's
fields. Messages that are sent together are one frame: a JSON array of them, after its length in bytes.
"""

from typing import Any, NamedTuple

from tracker import json_codec
from tracker.domain.operation import Json
from tracker.store.codec import result_of
from workers.outcome import Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded, Unusable

HEADER_BYTES = 4
"""How many bytes the length before a frame takes. The length is big-endian."""


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
    begin_before: float
    """The latest `time.monotonic()` at which the handler may begin. After that, the lease may have ended."""


class HostReady(NamedTuple):
    """The host can run attempts now. This is a host's first message. It is about no attempt: `run_id` is 0."""

    run_id: int = 0


class StopAttempt(NamedTuple):
    """Ask the handler of an attempt to stop. The host ignores this message when the attempt has ended."""

    run_id: int


class ProgressReport(NamedTuple):
    """What the handler reported as its progress. `percent` is None until it reports a percentage."""

    run_id: int
    percent: int | None
    detail: str


class AttemptRefused(NamedTuple):
    """The host has not begun an attempt, because it was too late. It is the last message about the attempt."""

    run_id: int


class AttemptEnded(NamedTuple):
    """The outcome of an attempt. It is the last message about the attempt."""

    run_id: int
    outcome: Outcome


Message = RunAttempt | StopAttempt | HostReady | ProgressReport | AttemptRefused | AttemptEnded

_MESSAGES: dict[str, Any] = {
    cls.__name__: cls for cls in (RunAttempt, StopAttempt, HostReady, ProgressReport, AttemptRefused)
}
_OUTCOMES: dict[str, Any] = {cls.__name__: cls for cls in (Succeeded, Rejected, RetryRequested, Raised)}
"""The outcomes that hosts send, but for `Stopped`. Their first field is a `ResultInfo`, which JSON has no form for."""


def encode(message: Message) -> bytes:
    """Write one message, to be put into a frame. Raises TypeError for a value that JSON has no form for."""
    if not isinstance(message, AttemptEnded):
        return json_codec.encode([type(message).__name__, *message])
    run_id, outcome = message
    name = type(outcome).__name__
    fields: list[Any] = list(outcome)
    if name in _OUTCOMES:
        result = fields[0]
        fields[0] = (result.code, result.subcode, result.message)
    return json_codec.encode([name, run_id, *fields])


def frame(messages: list[bytes]) -> bytes:
    """One frame of these messages, which `encode` wrote."""
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
            messages += [_message_of(name, run_id, fields) for name, run_id, *fields in json_codec.decode(body)]
            start = end
        del self._buffer[:start]
        return messages


def _message_of(name: str, run_id: int, fields: list[Any]) -> Message:
    if message := _MESSAGES.get(name):
        received: Message = message(run_id, *fields)
        return received
    return AttemptEnded(run_id, _outcome_of(name, fields))


def _outcome_of(name: str, fields: list[Any]) -> Outcome:
    """The outcome of these fields; Unusable if the handler made a result without validation, of wrong types."""
    try:
        if name == Stopped.__name__:
            return Stopped(*fields)
        fields[0] = result_of(*fields[0])
        outcome: Outcome = _OUTCOMES[name](*fields)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        return Unusable({}, None, error)
    return outcome
