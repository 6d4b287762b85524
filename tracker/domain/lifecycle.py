"""Decisions about transitions: a function for each, from a record to the change that is written.

Python decides, Redis compares. A function below makes a `Change` from the record as it was read. The script
`change.lua` writes the change only if the record still has that stage, attempt and ticket.

`create`, `claim`, `park`, `release`, `expire` and `forget` have no function here. Lua decides them, because they choose
among records that nobody has read yet. They are in the same table (`transitions`), and one test runs every transition
through Python and Lua.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tracker.domain.operation import CANCELED, LOST, NEVER_STARTED, NO_WORKER, TIMED_OUT, UNTAKEN, Json, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import FINAL, TRANSITIONS, Stage, Transition
from tracker.errors import IllegalTransition

VANISH_BACKOFF = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new ticket after a ticket has vanished. When one more vanishes, the operation ends."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decided transition. A script applies it as a whole or refuses it as a whole.

    * `seen`: the record as it was read. `stage`: the stage after the change. `fields`: the fields to write.
    * `delay`: seconds until the operation is due, if `stage` is delayed.
    * `timestamp_field`: the name of a field that the script sets to the server's time.
    * `lease_ran_out`: the script refuses the change if the lease was renewed meanwhile.
    * `revision`: the script refuses the change unless the record still has this revision.
    * `entry`: what is appended to the operation's history of attempts.
    * `token`: the name of this change. A change that is sent again because its reply was lost is written once.
    """

    transition: Transition
    seen: Record
    stage: Stage
    fields: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    timestamp_field: str = ""
    lease_ran_out: bool = False
    revision: int | None = None
    entry: Json | None = None
    token: str = field(default_factory=lambda: f"{random.getrandbits(48):x}", compare=False)


def succeed(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Complete the operation. `members` are the result members that the handler set."""
    return _change(Transition.SUCCEED, seen, Stage.COMPLETED, **_result(result, members), percent=100)


def reject(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Fail the operation, because its handler does not accept the input. No attempt is charged."""
    return _change(Transition.FAIL, seen, Stage.FAILED, **_result(result, members))


def fail(
    seen: Record,
    result: ResultInfo,
    members: Json,
    *,
    after: float | None = None,
    again: bool = True,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Change:
    """Charge the attempt, and retry after the backoff or after `after` seconds.

    The operation fails instead when this was its last attempt, and when `again` is false.
    """
    charged = seen.charged + 1
    if charged >= seen.policy.attempts or not again:
        return _change(Transition.FAIL, seen, Stage.FAILED, **_result(result, members), charged=charged)
    delay = backoff(seen.policy.backoff_first, seen.policy.backoff_cap, charged, jitter) if after is None else after
    return _change(Transition.RETRY, seen, Stage.DELAYED, attempt_result=result, charged=charged, delay=delay)


def time_out(seen: Record) -> Change:
    """Charge an attempt that did not end within `run_within` (408/1)."""
    message = f"The attempt did not end within {seen.policy.run_within:g} s."
    return fail(seen, TIMED_OUT.model_copy(update={"message": message}), {})


def hand_back(seen: Record) -> Change:
    """Queue an unfinished operation again. No attempt is charged."""
    return _change(Transition.HAND_BACK, seen, Stage.QUEUED)


def lose(seen: Record) -> Change:
    """Charge an attempt whose lease ran out.

    The operation is queued again, or it fails when no attempts are left (503/1).
    """
    if seen.cancel_requested:
        return replace(cancel(seen), lease_ran_out=True)
    charged = seen.charged + 1
    if charged >= seen.policy.attempts:
        return _change(Transition.LOSE, seen, Stage.FAILED, lease_ran_out=True, charged=charged, **_result(LOST, {}))
    return _change(Transition.LOSE, seen, Stage.QUEUED, lease_ran_out=True, charged=charged)


def vanish(seen: Record) -> Change:
    """Delay an operation whose ticket vanished, or fail it when too many tickets vanished (503/2)."""
    if seen.vanished >= len(VANISH_BACKOFF):
        return _change(Transition.VANISH, seen, Stage.FAILED, **_result(UNTAKEN, {}))
    delay = VANISH_BACKOFF[seen.vanished]
    return _change(Transition.VANISH, seen, Stage.DELAYED, vanished=seen.vanished + 1, delay=delay)


def miss(seen: Record) -> Change:
    """Fail an operation that did not start in time: 501/1 when no worker had its type, otherwise 408/2."""
    if seen.attempt:
        raise IllegalTransition(f"{Transition.MISS}: operation {seen.id} has started")
    return _change(
        Transition.MISS, seen, Stage.FAILED, **_result(NO_WORKER if seen.blocker == "type" else NEVER_STARTED, {})
    )


def due(seen: Record) -> Change:
    """Queue an operation whose time has come. A serial operation may have to wait for others of its call first."""
    return _change(Transition.DUE, seen, Stage.QUEUED)


def progress(seen: Record, percent: int | None, detail: str) -> Change:
    """Store the handler's latest progress."""
    return _change(Transition.PROGRESS, seen, Stage.RUNNING, percent=percent, detail=detail)


def request_cancel(seen: Record, reason: str = "", *, by: str = "") -> Change:
    """Ask an unfinished operation to stop.

    An operation that waits ends at once and never starts. A running operation only gets a stored request. Its worker
    receives the request, and the handler may still succeed first.
    """
    if seen.stage is Stage.RUNNING:
        return _change(
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
    fields = _result(result, {**(members or {}), **policy.canceled_members})
    return _change(
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
    return _change(Transition.PATCH, seen, seen.stage, revision=seen.revision, **fields)


def hide(seen: Record, *, by: str = "") -> Change:
    """Hide an operation that a client deleted. An unfinished operation is canceled, too."""
    if seen.stage in FINAL:
        return _change(Transition.HIDE, seen, Stage.TOMBSTONE, hidden=True)
    if seen.stage is Stage.RUNNING:
        by = seen.cancel_by or by
        return _change(
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


def _result(result: ResultInfo, members: Json) -> dict[str, Any]:
    fields: dict[str, Any] = {"result_info": result}
    if members:
        fields["results"] = dict(members)
    return fields


def _change(
    transition: Transition,
    seen: Record,
    stage: Stage,
    *,
    delay: float = 0.0,
    timestamp_field: str = "",
    lease_ran_out: bool = False,
    revision: int | None = None,
    attempt_result: ResultInfo | None = None,
    **fields: Any,
) -> Change:
    """Make the change, with an entry for the history if it ends an attempt that did not succeed.

    `attempt_result` is the result of the attempt alone, where the operation has none yet. Raises IllegalTransition.
    """
    sources, targets = TRANSITIONS[transition]
    if seen.stage not in sources or stage not in targets:
        raise IllegalTransition(f"{transition}: {seen.stage} → {stage} is not a transition (operation {seen.id})")
    entry = (
        _entry(transition, seen, attempt_result or fields.get("result_info"))
        if seen.stage is Stage.RUNNING and transition in _ENDINGS
        else None
    )
    return Change(transition, seen, stage, fields, delay, timestamp_field, lease_ran_out, revision, entry)


_ENDINGS = frozenset({Transition.FAIL, Transition.RETRY, Transition.HAND_BACK, Transition.LOSE, Transition.CANCEL})
"""Transitions that end an attempt without success. Only these are kept in the history."""


def _entry(transition: Transition, seen: Record, result: ResultInfo | None) -> Json:
    ended = {} if result is None else {"code": result.code, "message": result.message}
    return {"attempt": seen.attempt, "worker": seen.worker, "started": seen.began, "outcome": transition.value, **ended}
