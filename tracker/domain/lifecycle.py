"""Decisions about transitions: a function for each, from a record to the change that is written.

Python decides, Redis compares. A function below, or in `blame`, makes a `Change` from the record as it was read. The
script `change.lua` writes the change only if the record still has that stage, attempt and ticket.

`create`, `claim`, `park`, `release`, `expire` and `forget` have no function here. Lua decides them, because they choose
among records that nobody has read yet. They are in the same table (`transitions`), and one test runs every transition
through Python and Lua.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from tracker.domain.change import Change, make_change, result_fields
from tracker.domain.operation import CANCELED, NEVER_STARTED, NO_WORKER, TIMED_OUT, UNTAKEN, Json, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import FINAL, Stage, Transition
from tracker.errors import IllegalTransition

VANISH_BACKOFF = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new ticket after a ticket has vanished. When one more vanishes, the operation ends."""


def succeed(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Complete the operation. `members` are the result members that the handler set."""
    return make_change(Transition.SUCCEED, seen, Stage.COMPLETED, **result_fields(result, members), percent=100)


def reject(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Fail the operation, because its handler does not accept the input. No attempt is charged."""
    return make_change(Transition.FAIL, seen, Stage.FAILED, **result_fields(result, members))


def fail(
    seen: Record,
    result: ResultInfo,
    members: Json,
    *,
    after: float | None = None,
    again: bool = True,
    jitter: Callable[[float, float], float] = random.uniform,
    transition: Transition | None = None,
) -> Change:
    """Charge the attempt, and retry after the backoff or after `after` seconds.

    The operation fails instead when this was its last attempt, and when `again` is false. `transition` names the change
    if it is neither `fail` nor `retry`.
    """
    charged = seen.charged + 1
    if charged >= seen.policy.attempts or not again:
        ends = transition or Transition.FAIL
        return make_change(ends, seen, Stage.FAILED, **result_fields(result, members), charged=charged)
    delay = backoff(seen.policy.backoff_first, seen.policy.backoff_cap, charged, jitter) if after is None else after
    goes_on = transition or Transition.RETRY
    return make_change(goes_on, seen, Stage.DELAYED, attempt_result=result, charged=charged, delay=delay)


def time_out(seen: Record) -> Change:
    """Charge an attempt that did not end within `run_within` (408/1)."""
    message = f"The attempt did not end within {seen.policy.run_within:g} s."
    return fail(seen, TIMED_OUT.model_copy(update={"message": message}), {})


def hand_back(seen: Record) -> Change:
    """Queue an unfinished operation again: its worker stops, or could not begin the handler. No attempt is charged."""
    return make_change(Transition.HAND_BACK, seen, Stage.QUEUED)


def vanish(seen: Record) -> Change:
    """Delay an operation whose ticket vanished, or fail it when too many tickets vanished (503/2)."""
    if seen.vanished >= len(VANISH_BACKOFF):
        return make_change(Transition.VANISH, seen, Stage.FAILED, **result_fields(UNTAKEN, {}))
    delay = VANISH_BACKOFF[seen.vanished]
    return make_change(Transition.VANISH, seen, Stage.DELAYED, vanished=seen.vanished + 1, delay=delay)


def miss(seen: Record) -> Change:
    """Fail an operation that did not start in time: 501/1 when no worker had its type, otherwise 408/2."""
    if seen.attempt:
        raise IllegalTransition(f"{Transition.MISS}: operation {seen.id} has started")
    return make_change(
        Transition.MISS, seen, Stage.FAILED, **result_fields(NO_WORKER if seen.blocker == "type" else NEVER_STARTED, {})
    )


def due(seen: Record) -> Change:
    """Queue an operation whose time has come. A serial operation may have to wait for others of its call first."""
    return make_change(Transition.DUE, seen, Stage.QUEUED)


def progress(seen: Record, percent: int | None, detail: str) -> Change:
    """Store the handler's latest progress."""
    return make_change(Transition.PROGRESS, seen, Stage.RUNNING, percent=percent, detail=detail)


def request_cancel(seen: Record, reason: str = "", *, by: str = "") -> Change:
    """Ask an unfinished operation to stop.

    An operation that waits ends at once and never starts. A running operation only gets a stored request. Its worker
    receives the request, and the handler may still succeed first.
    """
    if seen.stage is Stage.RUNNING:
        return make_change(
            Transition.REQUEST_CANCEL,
            seen,
            Stage.RUNNING,
            timestamp_field="cancel_requested",
            cancel_reason=reason,
            cancel_by=by,
        )
    return cancel(seen, reason, by=by)


def cancel(seen: Record, reason: str = "", members: Json | None = None, *, by: str = "") -> Change:
    """End an operation as canceled, with the `resultInfo` that its type has for canceled operations."""
    policy = seen.policy
    result = policy.canceled
    reason = seen.cancel_reason or reason
    if result == CANCELED and reason:
        result = result.model_copy(update={"message": f"The operation was canceled: {reason}"})
    fields = result_fields(result, {**(members or {}), **policy.canceled_members})
    return make_change(
        Transition.CANCEL,
        seen,
        Stage.FAILED,
        **fields,
        canceled=True,
        cancel_reason=reason,
        cancel_by=seen.cancel_by or by,
        timestamp_field=_cancel_timestamp_field(seen),
    )


def patch(seen: Record, fields: Json) -> Change:
    """Write the fields that a client's PATCH changes, in any stage, unless the record has changed since it was read."""
    return make_change(Transition.PATCH, seen, seen.stage, revision=seen.revision, **fields)


def hide(seen: Record, *, by: str = "") -> Change:
    """Hide an operation that a client deleted. An unfinished operation is canceled, too."""
    if seen.stage in FINAL:
        return make_change(Transition.HIDE, seen, Stage.TOMBSTONE, hidden=True)
    if seen.stage is Stage.RUNNING:
        by = seen.cancel_by or by
        return make_change(
            Transition.HIDE,
            seen,
            Stage.RUNNING,
            timestamp_field=_cancel_timestamp_field(seen),
            hidden=True,
            cancel_by=by,
        )
    canceled = cancel(seen, by=by)
    return replace(canceled, fields={**canceled.fields, "hidden": True})


def if_unchanged(change: Change) -> Change:
    """The same change, which is refused if the record has any other revision by then."""
    return replace(change, revision=change.seen.revision)


def backoff(first: float, cap: float, failures: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after `failures` failures: exponential with full jitter, at most `cap`."""
    ceiling: float = min(cap, first * 2.0 ** min(failures - 1, 32))
    return jitter(0.0, ceiling)


def _cancel_timestamp_field(seen: Record) -> str:
    """The field that takes the time of a cancel request. The first request counts, so a later one sets none."""
    return "" if seen.cancel_requested else "cancel_requested"
