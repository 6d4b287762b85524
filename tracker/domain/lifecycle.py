"""Every change of an operation's stage, named (see `transitions`) and decided here.

Python decides, Redis compares: a function below turns the record as it was seen into a `Change`, and one script
(`change.lua`) writes it only if the record's stage, attempt and ticket are still those. `claim`, `park`,
`release`, `expire` and `forget` are decided inside Lua, which must choose among records that nobody has read yet;
they stand in the same table, and one test runs every transition through Python and Lua.
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
"""Seconds before each new ticket after one vanished; the ticket after these ends the operation."""


@dataclass(frozen=True, slots=True)
class Change:
    """One transition, decided: what the record was, what it becomes. Applied whole or refused whole.

    `delay` is in seconds and counts when the stage becomes delayed. `stamp` names a field that takes the
    server's time. `lease_ran_out` asks the script to refuse if the lease was renewed after all;
    `revision` to refuse unless the record's revision is still that one. `entry` is appended to the attempt's
    history. `token` names the change: applied twice,
    because its answer was lost, it is written once.
    """

    transition: Transition
    seen: Record
    stage: Stage
    fields: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    stamp: str = ""
    lease_ran_out: bool = False
    revision: int | None = None
    entry: Json | None = None
    token: str = field(default_factory=lambda: f"{random.getrandbits(48):x}", compare=False)


def succeed(seen: Record, result: ResultInfo, members: Json) -> Change:
    """End the current attempt well; `members` are the type's result members."""
    return _change(Transition.SUCCEED, seen, Stage.COMPLETED, **_result(result, members), percent=100)


def reject(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Fail for good: the handler does not accept the operation's input. Charges nothing more."""
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
    """Charge the attempt: wait for the backoff (or `after` seconds), or end when it was the last, or not `again`."""
    charged = seen.charged + 1
    if charged >= seen.policy.attempts or not again:
        return _change(Transition.FAIL, seen, Stage.FAILED, **_result(result, members), charged=charged)
    delay = backoff(seen.policy.backoff_first, seen.policy.backoff_cap, charged, jitter) if after is None else after
    return _change(Transition.RETRY, seen, Stage.DELAYED, told=result, charged=charged, delay=delay)


def time_out(seen: Record) -> Change:
    """Charge an attempt that did not end within its limit (408/1)."""
    message = f"The attempt did not end within {seen.policy.run_within:g} s."
    return fail(seen, TIMED_OUT.model_copy(update={"message": message}), {})


def hand_back(seen: Record) -> Change:
    """Return unfinished work to the queue, uncharged."""
    return _change(Transition.HAND_BACK, seen, Stage.QUEUED)


def lose(seen: Record) -> Change:
    """Charge an attempt whose lease ran out: queue it again, or end it when attempts are spent (503/1)."""
    if seen.cancel_requested:
        return replace(cancel(seen), lease_ran_out=True)
    charged = seen.charged + 1
    if charged >= seen.policy.attempts:
        return _change(Transition.LOSE, seen, Stage.FAILED, lease_ran_out=True, charged=charged, **_result(LOST, {}))
    return _change(Transition.LOSE, seen, Stage.QUEUED, lease_ran_out=True, charged=charged)


def vanish(seen: Record) -> Change:
    """Send out a new ticket after a while, or give up when tickets keep vanishing (503/2)."""
    if seen.vanished >= len(VANISH_BACKOFF):
        return _change(Transition.VANISH, seen, Stage.FAILED, **_result(UNTAKEN, {}))
    delay = VANISH_BACKOFF[seen.vanished]
    return _change(Transition.VANISH, seen, Stage.DELAYED, vanished=seen.vanished + 1, delay=delay)


def miss(seen: Record) -> Change:
    """End an operation that did not start in time: 501/1 when no worker had its type, else 408/2."""
    if seen.attempt:
        raise IllegalTransition(f"{Transition.MISS}: operation {seen.id} has started")
    return _change(
        Transition.MISS, seen, Stage.FAILED, **_result(NO_WORKER if seen.blocker == "type" else NEVER_STARTED, {})
    )


def due(seen: Record) -> Change:
    """Queue an operation whose wait is over, or let it join its call's line."""
    return _change(Transition.DUE, seen, Stage.QUEUED)


def progress(seen: Record, percent: int | None, detail: str) -> Change:
    """Store the handler's latest progress."""
    return _change(Transition.PROGRESS, seen, Stage.RUNNING, percent=percent, detail=detail)


def request_cancel(seen: Record, reason: str = "", *, by: str = "") -> Change:
    """Ask an unfinished operation to stop.

    What waits ends at once and never starts. What runs is only marked: its worker learns of it at the next
    beat, and may still succeed first.
    """
    if seen.stage is Stage.RUNNING:
        return _change(
            Transition.REQUEST_CANCEL, seen, Stage.RUNNING, stamp="cancel_requested", cancel_reason=reason, cancel_by=by
        )
    return cancel(seen, reason, by=by)


def cancel(seen: Record, reason: str = "", members: Json | None = None, *, by: str = "") -> Change:
    """End an operation as canceled, with its type's cancel code."""
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
        stamp=_cancel_stamp(seen),
    )


def patch(seen: Record, fields: Json) -> Change:
    """Write what a client may change (see `patches`), whatever the stage, if nothing else was written meanwhile."""
    return _change(Transition.PATCH, seen, seen.stage, revision=seen.revision, **fields)


def hide(seen: Record, *, by: str = "") -> Change:
    """Delete what a client no longer wants to see; unfinished work is canceled with it."""
    if seen.stage in FINAL:
        return _change(Transition.HIDE, seen, Stage.TOMBSTONE, hidden=True)
    if seen.stage is Stage.RUNNING:
        by = seen.cancel_by or by
        return _change(Transition.HIDE, seen, Stage.RUNNING, stamp=_cancel_stamp(seen), hidden=True, cancel_by=by)
    canceled = cancel(seen, by=by)
    return replace(canceled, fields={**canceled.fields, "hidden": True})


def if_unchanged(change: Change) -> Change:
    """The same change, refused if anything at all was written to the record meanwhile."""
    return replace(change, revision=change.seen.revision)


def backoff(first: float, cap: float, failures: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after that many failures: exponential with full jitter, at most `cap`."""
    ceiling: float = min(cap, first * 2.0 ** min(failures - 1, 32))
    return jitter(0.0, ceiling)


def _cancel_stamp(seen: Record) -> str:
    """The first request counts: a later one leaves its time alone."""
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
    stamp: str = "",
    lease_ran_out: bool = False,
    revision: int | None = None,
    told: ResultInfo | None = None,
    **fields: Any,
) -> Change:
    """`told` is for the attempt's history, where the operation itself has no result yet."""
    sources, targets = TRANSITIONS[transition]
    if seen.stage not in sources or stage not in targets:
        raise IllegalTransition(f"{transition}: {seen.stage} → {stage} is no transition (operation {seen.id})")
    entry = (
        _entry(transition, seen, told or fields.get("result_info"))
        if seen.stage is Stage.RUNNING and transition in _ENDINGS
        else None
    )
    return Change(transition, seen, stage, fields, delay, stamp, lease_ran_out, revision, entry)


_ENDINGS = frozenset({Transition.FAIL, Transition.RETRY, Transition.HAND_BACK, Transition.LOSE, Transition.CANCEL})
"""How an attempt ends otherwise than well. One that ends well is in the record itself."""


def _entry(transition: Transition, seen: Record, result: ResultInfo | None) -> Json:
    told = {} if result is None else {"code": result.code, "message": result.message}
    return {"attempt": seen.attempt, "worker": seen.worker, "started": seen.began, "outcome": transition.value, **told}
