"""Which change of the record an outcome means."""

import math
import signal
from typing import Any

import pytest

from tests.support.records import make_record
from tracker.domain.change import Change
from tracker.domain.operation import DONE, RAISED
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage, Transition
from workers.attempt import Attempt, StopReason
from workers.completion import change_for, log_fields
from workers.frames import ProgressReport
from workers.host import Death
from workers.outcome import Died, Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded, Unusable

DEAD = Died({}, 20 * 2**20, -signal.SIGKILL, "perhaps out of memory: its memory peaked at 20 MiB", proven=True)
FAILED = Raised(RAISED, {}, retryable=True, traceback="Traceback …")
STOPS = [StopReason.CANCEL, StopReason.DEADLINE, StopReason.DRAIN]
NO_HOST: Any = None
"""`change_for` does not look at the host."""


def attempt(reason: StopReason | None = None, *, attempts: int = 2) -> Attempt:
    record = make_record(stage=Stage.RUNNING, attempt=1, policy=Policy(attempts=attempts))
    return Attempt(1, record, NO_HOST, 0.0, math.inf, stop_reason=reason)


def change(ended: Attempt, outcome: Outcome) -> Change:
    found = change_for(ended, outcome)
    assert found is not None
    return found


@pytest.mark.parametrize("reason", [None, *STOPS])
@pytest.mark.parametrize(
    ("outcome", "transition"),
    [
        (Succeeded(DONE, {"answer": 1}), Transition.SUCCEED),
        (Rejected(RAISED, {"answer": 1}), Transition.FAIL),
        (RetryRequested(RAISED, {}, 2.0), Transition.RETRY),
        (Unusable({}, None, TypeError()), Transition.FAIL),
    ],
)
def test_what_a_handler_states_counts_though_it_was_asked_to_stop(
    reason: StopReason | None, outcome: Outcome, transition: Transition
) -> None:
    assert change(attempt(reason), outcome).transition is transition


@pytest.mark.parametrize("outcome", [FAILED, Stopped({}), DEAD])
def test_otherwise_the_reason_for_the_stop_decides(outcome: Outcome) -> None:
    assert change_for(attempt(StopReason.CANCEL), outcome) is None
    timed_out = change(attempt(StopReason.DEADLINE, attempts=1), outcome)
    assert timed_out.fields["result_info"].code == 408
    handed_back = change(attempt(StopReason.DRAIN), outcome)
    assert (handed_back.transition, "charged" in handed_back.fields) == (Transition.HAND_BACK, False)


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (FAILED, 500, "The handler failed."),
        (DEAD, 503, f"The operation ended its process (killed by SIGKILL; {DEAD.hint})."),
        (
            Died({}, 9 << 20, 3, proven=True),
            503,
            "The operation ended its process (exit code 3; its memory peaked at 9 MiB).",
        ),
        (
            Died({}, 0, -40, proven=True),
            503,
            "The operation ended its process (killed by signal 40; its memory peaked at 0 MiB).",
        ),
        (Stopped({}), 503, "The handler stopped without being asked to."),
    ],
)
def test_a_failure_that_nobody_asked_for_is_charged(outcome: Outcome, code: int, message: str) -> None:
    last = change(attempt(attempts=1), outcome)
    assert (last.stage, last.fields["charged"]) == (Stage.FAILED, 1)
    assert (last.fields["result_info"].code, last.fields["result_info"].message) == (code, message)
    assert change(attempt(attempts=2), outcome).transition is Transition.RETRY


def test_an_exception_that_its_type_does_not_retry_fails_the_operation() -> None:
    assert change(attempt(attempts=9), FAILED._replace(retryable=False)).stage is Stage.FAILED


@pytest.mark.parametrize(
    ("outcome", "evidence"),
    [
        (DEAD, {"signal": -9, "peak_rss": DEAD.peak_rss, "hint": DEAD.hint}),
        (Died({}, 7, 3), {"signal": 3, "peak_rss": 7}),
        (FAILED._replace(peak_rss=5), {"peak_rss": 5}),
        (FAILED, {}),
    ],
)
def test_the_history_keeps_what_is_known_of_the_process(outcome: Outcome, evidence: dict[str, Any]) -> None:
    entry = change(attempt(), outcome).entry
    assert entry is not None
    assert {name: entry[name] for name in ("signal", "peak_rss", "hint") if name in entry} == evidence


def test_the_latest_report_goes_with_the_outcome_unless_it_is_stored() -> None:
    reported = attempt()
    reported.unstored_progress = ProgressReport(1, 40, "halfway")
    assert change(reported, FAILED).fields["detail"] == "halfway"
    assert change(reported, FAILED).fields["percent"] == 40
    assert change(reported, Succeeded(DONE, {})).fields["percent"] == 100
    assert "detail" not in change(attempt(), FAILED).fields


def test_the_log_of_an_end_says_what_operators_look_for() -> None:
    assert log_fields(FAILED) == {"traceback": FAILED.traceback}
    assert log_fields(DEAD) == {"signal": -9, "hint": DEAD.hint}
    assert log_fields(Died({}, 1, 3)) == {"signal": 3}
    assert log_fields(Succeeded(DONE, {}, 5)) == {}


@pytest.mark.parametrize(
    ("expected", "oom_kill", "exit_code", "hint"),
    [
        (False, True, -signal.SIGKILL, "out of memory: its memory peaked at 20 MiB"),
        (False, False, -signal.SIGKILL, "perhaps out of memory: its memory peaked at 20 MiB"),
        (True, True, -signal.SIGKILL, None),
        (False, True, 3, None),
    ],
)
def test_a_death_hints_at_memory_only_for_a_kill_that_was_not_ours(
    expected: bool, oom_kill: bool, exit_code: int, hint: str | None
) -> None:
    death = Death(7, exit_code, 20 * 2**20, expected, oom_kill)
    assert death.outcome() == Died({}, 20 * 2**20, exit_code, hint)
