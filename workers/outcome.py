"""What an outcome means: the change that ends an attempt, from what its host said or how that died."""

import signal
from dataclasses import replace
from pathlib import Path

from tracker.domain import lifecycle
from tracker.domain.lifecycle import Change
from tracker.domain.operation import LOST, RAISED, Json, ResultInfo
from tracker.domain.record import Record
from tracker.store.codec import result_of
from workers.attempt import Attempt, StopReason

STOPPED: Json = {"outcome": "stopped"}
"""For a handler that did not end when it was asked to."""
UNUSABLE: Json = {"outcome": "raised", "result": RAISED.model_dump(), "retryable": False}
_MIB = 1024 * 1024
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


def decide(attempt: Attempt, outcome: Json) -> Change | None:
    """The change that an outcome means; None when the attempt ends as canceled, which the record decides.

    A handler that has its say before it is stopped, or in spite of it, wins.
    """
    record = attempt.record
    said = outcome["outcome"] in {"succeeded", "rejected", "retry"}
    if attempt.stop is StopReason.CANCEL and not said:
        return None
    if said:
        change = _by_handler(record, outcome)
    elif attempt.stop is None:
        change = _by_failure(record, outcome)
    elif attempt.stop is StopReason.DEADLINE:
        change = lifecycle.time_out(record)
    else:
        change = lifecycle.hand_back(record)
    return _with_progress(attempt, with_evidence(change, outcome))


def _by_handler(record: Record, outcome: Json) -> Change:
    result, members = result_of(**outcome["result"]), outcome["members"]
    match outcome["outcome"]:
        case "succeeded":
            return lifecycle.succeed(record, result, members)
        case "rejected":
            return lifecycle.reject(record, result, members)
        case _:
            return lifecycle.fail(record, result, members, after=outcome["after"])


def _by_failure(record: Record, outcome: Json) -> Change:
    """The handler raised, or its process died, unasked."""
    if outcome["outcome"] == "raised":
        return lifecycle.fail(
            record, result_of(**outcome["result"]), outcome.get("members", {}), again=outcome.get("retryable", True)
        )
    return lifecycle.fail(record, _death(outcome.get("signal", -signal.SIGTERM), outcome.get("hint")), {})


def _death(code: int, hint: str | None) -> ResultInfo:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
    return LOST.model_copy(update={"message": f"The handler's process {how}{f' ({hint})' if hint else ''}."})


def with_evidence(change: Change, outcome: Json) -> Change:
    """What is known of the attempt's process goes into the attempt's history."""
    known: Json = {name: outcome[name] for name in ("signal", "peak_rss", "hint") if name in outcome}
    if "rss" in outcome:  # what a host that lives says of itself
        known["peak_rss"] = outcome["rss"]
    return replace(change, entry={**change.entry, **known}) if change.entry is not None and known else change


def _with_progress(attempt: Attempt, change: Change) -> Change:
    """The latest report goes with the outcome: it may have come too soon after another to be stored."""
    if attempt.progress is None or attempt.reported:
        return change
    latest = {"percent": attempt.progress["progress"], "detail": attempt.progress["detail"]}
    return replace(change, fields={**latest, **change.fields})


def died(code: int, peak_rss: int, *, asked: bool, kills_before: int) -> Json:
    """The outcome of attempts whose host died. `peak_rss` is in bytes; `kills_before` from `oom_kills`."""
    outcome: Json = {"outcome": "died", "signal": code, "peak_rss": peak_rss}
    if code == -signal.SIGKILL and not asked:
        size = f"its memory peaked at {peak_rss // _MIB} MiB"
        outcome["hint"] = f"out of memory: {size}" if oom_kills() > kills_before else f"perhaps out of memory: {size}"
    return outcome


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for want of memory; 0 where it does not say."""
    try:
        lines = _MEMORY_EVENTS.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0


def for_the_log(outcome: Json) -> Json:
    """What of an outcome operators want to see: a traceback, a signal."""
    return {name: outcome[name] for name in ("traceback", "signal", "hint") if name in outcome}
