"""Blame: which attempt is charged when a process or a worker dies, and how its operation runs from then on.

The death of a process or a worker ends many attempts, and nobody knows which of them is the cause. So no attempt is
charged. Each of the operations runs *apart* from then on: first in a process of its own, and after two lost workers on
a worker that runs nothing else. When such a process or worker dies, its only attempt counts as the cause, and is
charged.
"""

from dataclasses import replace
from typing import Any

from tracker.domain import lifecycle
from tracker.domain.change import Change, make_change, result_fields
from tracker.domain.operation import LOST, UNPROVEN, WORKERS_LOST, ResultInfo
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage, Transition

MAX_SUSPECTED = 10
"""After how many deaths without a charge an operation fails (503/3).

This is a safety limit. Only workers of earlier versions can bring an operation so far, because they run it together
with others again.
"""
ALONE_AFTER = 2
"""After how many lost workers an operation runs only on a worker that runs nothing else."""
_NOT_CHARGED = "it is not proven that this attempt is the cause, so it is not charged"
_WITH_PROCESS = f"The process of the attempt died; {_NOT_CHARGED}."
_WITH_WORKER = f"The worker of the attempt was lost; {_NOT_CHARGED}."


def die(seen: Record, result: ResultInfo, *, proven: bool) -> Change:
    """End an attempt whose process died.

    `proven` says whether the process has run no other attempt. Then the attempt is charged, and `result` is its result
    (503/1). Otherwise it is not charged. In both cases the operation runs in a process of its own from now on. If its
    type has `rerun_unproven=False`, the operation fails instead.
    """
    if not seen.policy.rerun_unproven:
        return _fail_unproven(Transition.FAIL, seen)
    if proven:
        return _run_apart(lifecycle.fail(seen, result, {}))
    return _suspect(Transition.HAND_BACK, seen, _WITH_PROCESS)


def lose(seen: Record) -> Change:
    """End an attempt whose lease ran out, because its worker or the connection to Redis was lost.

    The attempt is charged if it had its worker for itself. A process of RQ's own workers runs one attempt only, so such
    an attempt is charged, too.
    """
    if seen.cancel_requested:
        return replace(lifecycle.cancel(seen), lease_ran_out=True)
    if not seen.policy.rerun_unproven:
        change = _fail_unproven(Transition.LOSE, seen)
    elif seen.is_alone or not seen.rq:
        change = _run_apart(lifecycle.fail(seen, LOST, {}, transition=Transition.LOSE))
    else:
        change = _suspect(Transition.LOSE, seen, _WITH_WORKER, lost_workers=1)
    return replace(change, lease_ran_out=True)


def lose_hosts(seen: Record) -> Change:
    """End an attempt whose worker lives, but lost all its processes for handlers at once."""
    if not seen.policy.rerun_unproven:
        return _fail_unproven(Transition.FAIL, seen)
    if seen.is_alone:
        return lifecycle.fail(seen, LOST, {})
    return _suspect(Transition.HAND_BACK, seen, _WITH_WORKER, lost_workers=1)


def hand_back_blocked(seen: Record, message: str) -> Change:
    """Queue an operation again whose event loop was blocked, by itself or by another operation.

    From now on the operation runs in a process of its own, so this happens to it once at most. `message` says who
    blocked the loop.
    """
    return _run_apart(make_change(Transition.HAND_BACK, seen, Stage.QUEUED, attempt_result=message))


def _run_apart(change: Change) -> Change:
    """The change, after which the operation runs in a process of its own at least."""
    return replace(change, fields={**change.fields, "apart": change.seen.apart or Apart.PROCESS})


def _suspect(transition: Transition, seen: Record, message: str, *, lost_workers: int = 0) -> Change:
    """Note a death without a charge. The operation runs again after 1, 2, 4 … s, or fails after too many deaths."""
    suspected, lost_workers = seen.suspected + 1, seen.lost_workers + lost_workers
    counts: dict[str, Any] = {"suspected": suspected, "lost_workers": lost_workers}
    if suspected >= MAX_SUSPECTED:
        ends = Transition.LOSE if transition is Transition.LOSE else Transition.FAIL
        return make_change(ends, seen, Stage.FAILED, **result_fields(WORKERS_LOST, {}), **counts)
    apart = Apart.WORKER if lost_workers >= ALONE_AFTER else Apart.PROCESS
    delay = 2.0 ** (suspected - 1)
    return make_change(transition, seen, Stage.DELAYED, delay=delay, attempt_result=message, apart=apart, **counts)


def _fail_unproven(transition: Transition, seen: Record) -> Change:
    return make_change(transition, seen, Stage.FAILED, **result_fields(UNPROVEN, {}))
