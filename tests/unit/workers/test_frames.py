"""Messages between a manager and its hosts: what one end writes, the other reads."""

from typing import Any, get_args

import pytest

from tracker.domain.operation import DONE, RAISED, ResultInfo
from workers import outcome as outcomes
from workers.frames import AttemptEnded, FrameReader, Message, ProgressReport, RunAttempt, StopAttempt, encode, frame
from workers.outcome import Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded, Unusable

MEMBERS = {"text": "ä", "number": 2**70, "nested": {"list": [1, None]}}
FROM_HOSTS: list[Outcome] = [
    Succeeded(DONE, {}),
    Succeeded(ResultInfo(code=200, subcode=4, message="done"), MEMBERS, 123_456),
    Rejected(ResultInfo(code=400, subcode=7, message="no"), {"seen": True}, 1),
    RetryRequested(RAISED, {}, 2.5),
    RetryRequested(RAISED, {}, None, 2),
    Raised(RAISED, {}, retryable=False, traceback="Traceback …", peak_rss=3),
    Stopped({"half": 1}),
]
MESSAGES: list[Message] = [
    RunAttempt(1, "#t.t", "id", "call", 2, "key", MEMBERS, None, 7.5),
    StopAttempt(2),
    ProgressReport(3, None, "detail"),
    ProgressReport(3, 40, ""),
    *(AttemptEnded(4, outcome) for outcome in FROM_HOSTS),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    [read] = FrameReader().feed(frame([encode(message)]))
    assert type(read) is type(message)
    assert read == message
    if isinstance(read, AttemptEnded) and isinstance(message, AttemptEnded):
        assert type(read.outcome) is type(message.outcome)


def test_every_outcome_that_a_host_makes_is_written() -> None:
    made_by_the_manager = {outcomes.Died, Unusable}
    assert {type(outcome) for outcome in FROM_HOSTS} == set(get_args(Outcome)) - made_by_the_manager


@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_frames_are_read_in_whatever_pieces_they_come(size: int) -> None:
    data = frame([encode(message) for message in MESSAGES]) + frame([encode(StopAttempt(5))])
    reader = FrameReader()
    read = [message for start in range(0, len(data), size) for message in reader.feed(data[start : start + size])]
    assert read == [*MESSAGES, StopAttempt(5)]


@pytest.mark.parametrize("fields", [{"code": [1]}, {"code": 200, "subcode": {}, "message": ""}])
def test_a_result_that_was_made_without_validation_makes_the_outcome_unusable(fields: Any) -> None:
    result = ResultInfo.model_construct(**{"code": 200, "subcode": 0, "message": "", **fields})
    [read, after] = FrameReader().feed(frame([encode(AttemptEnded(1, Succeeded(result, {}))), encode(StopAttempt(2))]))
    assert isinstance(read, AttemptEnded)
    assert isinstance(read.outcome, Unusable)
    assert (read.run_id, after) == (1, StopAttempt(2))
