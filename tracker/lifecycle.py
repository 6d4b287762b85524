"""The table of arrows: every change of an operation's stage, named, and decided here.

Python decides, Redis compares: a function below turns the record as it was seen into a `Change`, and one script
(`change.lua`) writes it only if the record's stage, attempt and ticket are still those. `claim`, `expire` and
`forget` are decided inside Lua, which must choose among records that nobody has read yet; they stand in the same
table, and one test runs every arrow through Python and Lua.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from secrets import token_hex
from typing import Any

from tracker.errors import IllegalTransition
from tracker.model import CANCELED, LOST, TIMED_OUT, UNTAKEN, Json, Record, ResultInfo, Stage

VANISH_BACKOFF = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new ticket after one vanished; the ticket after these ends the operation."""
DECLINE_CAP = 60.0


class Arrow(StrEnum):
    """What can happen to an operation. Each member says who makes it happen."""

    CREATE = "create"
    """A client's POST."""
    CLAIM = "claim"
    """A worker takes the ticket and begins the next attempt."""
    DECLINE = "decline"
    """A worker that does not know the type puts it off for one that does."""
    SUCCEED = "succeed"
    """The handler returned."""
    FAIL = "fail"
    """The handler rejected the input, or the last attempt failed or ran out of time."""
    RETRY = "retry"
    """The attempt failed or ran out of time and attempts are left: wait for the backoff."""
    HAND_BACK = "hand_back"
    """A draining worker returns unfinished work, uncharged."""
    LOSE = "lose"
    """The sweeper found a lease that ran out."""
    VANISH = "vanish"
    """The sweeper found that a ticket came to nothing."""
    DUE = "due"
    """The sweeper found that the wait is over."""
    PROGRESS = "progress"
    """The handler reported progress."""
    REQUEST_CANCEL = "request_cancel"
    """A client asked to cancel a running operation: the intent is stored, its worker acts on it."""
    CANCEL = "cancel"
    """The cancel takes effect: at once when nothing runs, else when the worker has stopped the handler."""
    HIDE = "hide"
    """A client's DELETE: nobody sees it any more; a running attempt lives on until its end."""
    EXPIRE = "expire"
    """The sweeper found that retention ended."""
    FORGET = "forget"
    """The sweeper found that the tombstone's time ended."""


EVENTS: Mapping[Arrow, str] = {
    Arrow.CREATE: "operation_created",
    Arrow.CLAIM: "operation_started",
    Arrow.DECLINE: "operation_declined",
    Arrow.SUCCEED: "operation_completed",
    Arrow.FAIL: "operation_failed",
    Arrow.RETRY: "operation_retried",
    Arrow.HAND_BACK: "operation_handed_back",
    Arrow.LOSE: "lease_lost",
    Arrow.VANISH: "ticket_vanished",
    Arrow.DUE: "operation_due",
    Arrow.PROGRESS: "operation_progressed",
    Arrow.REQUEST_CANCEL: "cancel_requested",
    Arrow.CANCEL: "operation_canceled",
    Arrow.HIDE: "operation_deleted",
}
"""The log's stable name for each arrow. `expire` and `forget` happen in bulk, inside Redis, and are not logged."""

_FINAL = frozenset({Stage.COMPLETED, Stage.FAILED})
_NOTHING: frozenset[Stage] = frozenset()

ARROWS: Mapping[Arrow, tuple[frozenset[Stage], frozenset[Stage]]] = {
    Arrow.CREATE: (_NOTHING, frozenset({Stage.QUEUED})),
    Arrow.CLAIM: (frozenset({Stage.QUEUED}), frozenset({Stage.RUNNING})),
    Arrow.DECLINE: (frozenset({Stage.QUEUED}), frozenset({Stage.DELAYED})),
    Arrow.SUCCEED: (frozenset({Stage.RUNNING}), frozenset({Stage.COMPLETED})),
    Arrow.FAIL: (frozenset({Stage.RUNNING}), frozenset({Stage.FAILED})),
    Arrow.RETRY: (frozenset({Stage.RUNNING}), frozenset({Stage.DELAYED})),
    Arrow.HAND_BACK: (frozenset({Stage.RUNNING}), frozenset({Stage.QUEUED})),
    Arrow.LOSE: (frozenset({Stage.RUNNING}), frozenset({Stage.QUEUED, Stage.FAILED})),
    Arrow.VANISH: (frozenset({Stage.QUEUED}), frozenset({Stage.DELAYED, Stage.FAILED})),
    Arrow.DUE: (frozenset({Stage.DELAYED}), frozenset({Stage.QUEUED})),
    Arrow.PROGRESS: (frozenset({Stage.RUNNING}), frozenset({Stage.RUNNING})),
    Arrow.REQUEST_CANCEL: (frozenset({Stage.RUNNING}), frozenset({Stage.RUNNING})),
    Arrow.CANCEL: (frozenset({Stage.QUEUED, Stage.DELAYED, Stage.RUNNING}), frozenset({Stage.FAILED})),
    Arrow.HIDE: (frozenset({Stage.RUNNING}) | _FINAL, frozenset({Stage.RUNNING, Stage.TOMBSTONE})),
    Arrow.EXPIRE: (_FINAL, frozenset({Stage.TOMBSTONE})),
    Arrow.FORGET: (frozenset({Stage.TOMBSTONE}), _NOTHING),
}
"""From which stages an arrow leaves, and where it may lead. A final stage of a hidden operation is written as
its tombstone at once."""


@dataclass(frozen=True, slots=True)
class Change:
    """One arrow, decided: what the record was, what it becomes. Applied whole or refused whole.

    `delay` is in seconds and counts when the stage becomes delayed. `stamp` names a field that takes the
    server's time. `lease_ran_out` asks the script to refuse if the lease was renewed after all;
    `revision` to refuse unless the record's revision is still that one. `token` names the change: applied twice,
    because its answer was lost, it is written once.
    """

    arrow: Arrow
    seen: Record
    stage: Stage
    fields: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    stamp: str = ""
    lease_ran_out: bool = False
    revision: int | None = None
    token: str = field(default_factory=lambda: token_hex(6), compare=False)


def succeed(seen: Record, result: ResultInfo, members: Json) -> Change:
    """End the current attempt well; `members` are the type's result members."""
    return _change(Arrow.SUCCEED, seen, Stage.COMPLETED, **_result(seen, result, members), percent=100)


def reject(seen: Record, result: ResultInfo, members: Json) -> Change:
    """Fail for good: the handler does not accept the operation's input. Charges nothing more."""
    return _change(Arrow.FAIL, seen, Stage.FAILED, **_result(seen, result, members))


def fail(
    seen: Record,
    result: ResultInfo,
    members: Json,
    *,
    after: float | None = None,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Change:
    """Charge the attempt: wait for the backoff (or `after` seconds), or end when it was the last."""
    charged = seen.charged + 1
    if charged >= seen.policy.attempts:
        return _change(Arrow.FAIL, seen, Stage.FAILED, **_result(seen, result, members), charged=charged)
    delay = backoff(seen.policy.backoff_first, seen.policy.backoff_cap, charged, jitter) if after is None else after
    return _change(Arrow.RETRY, seen, Stage.DELAYED, charged=charged, delay=delay)


def time_out(seen: Record) -> Change:
    """Charge an attempt that did not end within its limit (408/1)."""
    message = f"The attempt did not end within {seen.policy.run_within:g} s."
    return fail(seen, TIMED_OUT.model_copy(update={"message": message}), {})


def hand_back(seen: Record) -> Change:
    """Return unfinished work to the queue, uncharged."""
    return _change(Arrow.HAND_BACK, seen, Stage.QUEUED)


def decline(seen: Record) -> Change:
    """Put off an operation whose type this worker lacks; the wait doubles up to a minute, nothing is charged."""
    delay = min(DECLINE_CAP, 2.0 ** min(seen.declined, 6))
    return _change(Arrow.DECLINE, seen, Stage.DELAYED, declined=seen.declined + 1, delay=delay)


def lose(seen: Record) -> Change:
    """Charge an attempt whose lease ran out: queue it again, or end it when attempts are spent (503/1)."""
    if seen.cancel_requested:
        return replace(cancel(seen), lease_ran_out=True)
    charged = seen.charged + 1
    if charged >= seen.policy.attempts:
        return _change(Arrow.LOSE, seen, Stage.FAILED, lease_ran_out=True, charged=charged, **_result(seen, LOST, {}))
    return _change(Arrow.LOSE, seen, Stage.QUEUED, lease_ran_out=True, charged=charged)


def vanish(seen: Record) -> Change:
    """Send out a new ticket after a while, or give up when tickets keep vanishing (503/2)."""
    if seen.vanished >= len(VANISH_BACKOFF):
        return _change(Arrow.VANISH, seen, Stage.FAILED, **_result(seen, UNTAKEN, {}))
    delay = VANISH_BACKOFF[seen.vanished]
    return _change(Arrow.VANISH, seen, Stage.DELAYED, vanished=seen.vanished + 1, delay=delay)


def due(seen: Record) -> Change:
    """Queue an operation whose wait is over."""
    return _change(Arrow.DUE, seen, Stage.QUEUED)


def progress(seen: Record, percent: int | None, detail: str) -> Change:
    """Store the handler's latest progress."""
    return _change(Arrow.PROGRESS, seen, Stage.RUNNING, percent=percent, detail=detail)


def request_cancel(seen: Record, reason: str = "") -> Change:
    """Ask an unfinished operation to stop.

    What waits ends at once and never starts. What runs is only marked: its worker learns of it at the next
    beat, and may still succeed first.
    """
    if seen.stage is Stage.RUNNING:
        return _change(Arrow.REQUEST_CANCEL, seen, Stage.RUNNING, stamp="cancel_requested", cancel_reason=reason)
    return cancel(seen, reason)


def cancel(seen: Record, reason: str = "", members: Json | None = None) -> Change:
    """End an operation as canceled, with its type's cancel code."""
    policy = seen.policy
    result = policy.canceled
    reason = seen.cancel_reason or reason
    if result == CANCELED and reason:
        result = result.model_copy(update={"message": f"The operation was canceled: {reason}"})
    fields = _result(seen, result, {**(members or {}), **policy.canceled_members})
    return _change(
        Arrow.CANCEL, seen, Stage.FAILED, **fields, canceled=True, cancel_reason=reason, stamp=_cancel_stamp(seen)
    )


def hide(seen: Record, *, revision: int | None = None) -> Change:
    """Delete what a client no longer wants to see; unfinished work is canceled with it."""
    if seen.stage in _FINAL:
        return _change(Arrow.HIDE, seen, Stage.TOMBSTONE, hidden=True, revision=revision)
    if seen.stage is Stage.RUNNING:
        return _change(Arrow.HIDE, seen, Stage.RUNNING, hidden=True, stamp=_cancel_stamp(seen), revision=revision)
    canceled = cancel(seen)
    return replace(canceled, fields={**canceled.fields, "hidden": True}, revision=revision)


def backoff(first: float, cap: float, failures: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after that many failures: exponential with full jitter, at most `cap`."""
    ceiling: float = min(cap, first * 2.0 ** min(failures - 1, 32))
    return jitter(0.0, ceiling)


def _cancel_stamp(seen: Record) -> str:
    """The first request counts: a later one leaves its time alone."""
    return "" if seen.cancel_requested else "cancel_requested"


def _result(seen: Record, result: ResultInfo, members: Json) -> dict[str, Any]:
    fields: dict[str, Any] = {"result_info": result}
    if members:
        fields["members"] = {**seen.members, **members}
    return fields


def _change(
    arrow: Arrow,
    seen: Record,
    stage: Stage,
    *,
    delay: float = 0.0,
    stamp: str = "",
    lease_ran_out: bool = False,
    revision: int | None = None,
    **fields: Any,
) -> Change:
    sources, targets = ARROWS[arrow]
    if seen.stage not in sources or stage not in targets:
        raise IllegalTransition(f"{arrow}: {seen.stage} → {stage} is no arrow (operation {seen.id})")
    return Change(arrow, seen, stage, fields, delay, stamp, lease_ran_out, revision)
