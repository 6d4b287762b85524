"""The completion of an attempt: its outcome, and the change of the record that the outcome means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from signal import Signals

from tracker.domain import blame, lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import LOST, RAISED, Json, ResultInfo
from tracker.domain.record import Record
from workers.attempt import Attempt, StopReason
from workers.host import MIB
from workers.outcome import Died, Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded, Unusable


@dataclass(slots=True, eq=False)
class Completion:
    """An attempt that has ended and whose change is not written yet.

    `change` is None when the attempt was canceled. The completer then decides it on the record as it is by then, which
    says who asked for the cancel and why.
    """

    record: Record
    change: Change | None
    outcome: Outcome
    seconds: float
    """Time from the handler's start to the outcome."""
    packed: Sequence[str] = ()
    """The change as arguments of its script."""
    added: float = 0.0
    """When the completer got it, in seconds of the event loop's clock."""
    spooled: bool = False
    """Whether the spool holds `packed`."""


_DECISIVE = (Succeeded, Rejected, RetryRequested, Unusable)
"""Outcomes that count whether or not the handler was asked to stop."""


def change_for(attempt: Attempt, outcome: Outcome) -> Change | None:
    """The change that ends the attempt, or None when the attempt ends as canceled.

    A handler that was asked to stop may still return, reject its input or request a retry. That counts. Any other
    outcome after a request to stop is a consequence of the request, so the reason for the request decides the change.
    """
    record, reason = attempt.record, attempt.stop_reason
    if reason is None or isinstance(outcome, _DECISIVE):
        change = _change_by_outcome(record, outcome)
    elif reason is StopReason.CANCEL:
        return None
    elif reason is StopReason.DEADLINE:
        change = lifecycle.time_out(record)
    elif reason is StopReason.BLOCKED:
        change = blame.hand_back_blocked(record, attempt.stop_message)
    elif reason is StopReason.LOST:
        change = blame.lose_hosts(record)
    else:
        change = lifecycle.hand_back(record)
    return _with_progress(attempt, with_evidence(change, outcome))


def _change_by_outcome(record: Record, outcome: Outcome) -> Change:
    match outcome:
        case Succeeded():
            return lifecycle.succeed(record, outcome.result, outcome.members)
        case Rejected():
            return lifecycle.reject(record, outcome.result, outcome.members)
        case RetryRequested():
            return lifecycle.fail(record, outcome.result, outcome.members, after=outcome.after)
        case Raised():
            return lifecycle.fail(record, outcome.result, outcome.members, again=outcome.retryable)
        case Unusable():
            return lifecycle.fail(record, RAISED, {}, again=False)
        case Died() | Stopped():
            return _change_without_result(record, outcome)


def _change_without_result(record: Record, outcome: Died | Stopped) -> Change:
    if isinstance(outcome, Died):
        return blame.die(record, _ended_its_process(outcome), proven=outcome.proven)
    # The handler set `cancel_requested` and raised what the host raises to stop it.
    return lifecycle.fail(record, _lost("The handler stopped without being asked to."), {})


def _ended_its_process(death: Died) -> ResultInfo:
    """503/1, with a message that says how the process of the handler ended."""
    code = death.exit_code
    how = f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"
    facts = [how, death.hint or f"its memory peaked at {(death.peak_rss or 0) // MIB} MiB"]
    return _lost(f"The operation ended its process ({'; '.join(facts)}).")


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _lost(message: str) -> ResultInfo:
    return LOST.model_copy(update={"message": message})


def with_evidence(change: Change, outcome: Outcome) -> Change:
    """The change with what is known of the attempt's process, for the attempt's entry in the history."""
    if change.entry is None:
        return change
    known: Json = {}
    if isinstance(outcome, Died):
        known["signal"] = outcome.exit_code
    if outcome.peak_rss is not None:
        known["peak_rss"] = outcome.peak_rss
    if isinstance(outcome, Died) and outcome.hint:
        known["hint"] = outcome.hint
    return replace(change, entry={**change.entry, **known}) if known else change


def _with_progress(attempt: Attempt, change: Change) -> Change:
    """The change with the handler's latest progress, if that is not stored yet."""
    report = attempt.unstored_progress
    if report is None:
        return change
    return replace(change, fields={"percent": report.percent, "detail": report.detail, **change.fields})


def log_fields(outcome: Outcome) -> Json:
    """The fields about the outcome in the log line of an attempt's end."""
    match outcome:
        case Raised():
            return {"traceback": outcome.traceback}
        case Died(hint=None):
            return {"signal": outcome.exit_code}
        case Died():
            return {"signal": outcome.exit_code, "hint": outcome.hint}
        case _:
            return {}
