"""Stages of an operation, and the table of transitions between them."""

from collections.abc import Mapping
from enum import StrEnum


class Stage(StrEnum):
    """Where an operation is in its lifecycle. Each member says what changes the stage."""

    DELAYED = "delayed"
    """The operation waits for its `notBefore`, or for the backoff before its next attempt. The sweeper queues it."""
    QUEUED = "queued"
    """A ticket of the operation is on a queue of RQ. A worker's claim starts an attempt."""
    PARKED = "parked"
    """The operation waits for its blocker. The blocker's release queues it.

    A blocker is an earlier operation of a serial call, a limit of the type, or the lack of a worker with the type or
    with room to run the operation apart.
    """
    RUNNING = "running"
    """An attempt runs and holds the lease. Its worker ends it, or the sweeper when the lease has run out."""
    COMPLETED = "completed"
    """Final. The sweeper makes it a tombstone when its retention has ended."""
    FAILED = "failed"
    """Final, as `COMPLETED`."""
    TOMBSTONE = "tombstone"
    """Only the id and the final status are left. The sweeper removes them when the tombstone's time has ended."""


class Transition(StrEnum):
    """A change of an operation's record. Each member says what makes it happen."""

    CREATE = "create"
    """A client's POST."""
    CLAIM = "claim"
    """A worker takes the ticket, and the next attempt begins."""
    PARK = "park"
    """A worker's claim found that the operation may not start yet.

    A limit is reached, the worker lacks its type, or the worker has no room to run it apart from others.
    """
    RELEASE = "release"
    """The blocker is gone.

    The operation is the first of its serial call, a limiter opened, or there is a worker that can start it.
    """
    SUCCEED = "succeed"
    """The handler returned."""
    FAIL = "fail"
    """The handler rejected the input, or the last attempt failed or timed out."""
    RETRY = "retry"
    """The attempt failed or timed out, and attempts are left: the operation waits for its backoff."""
    HAND_BACK = "hand_back"
    """A worker returns an unfinished operation. No attempt is charged.

    The worker drains, or lost its processes for handlers. Or the attempt's process died, and the cause is not known. Or
    the event loop of the process was blocked.
    """
    LOSE = "lose"
    """The sweeper found a lease that ran out."""
    VANISH = "vanish"
    """The sweeper found that a ticket left its queue and nobody claimed it."""
    MISS = "miss"
    """The sweeper found that the operation had not started in time."""
    DUE = "due"
    """The sweeper found that the time has come for which the operation waited."""
    PROGRESS = "progress"
    """The handler reported progress."""
    REQUEST_CANCEL = "request_cancel"
    """A client asked to cancel a running operation. The request is stored, and the worker acts on it."""
    CANCEL = "cancel"
    """A cancel takes effect: at once when nothing runs, otherwise when the worker has stopped the handler."""
    HIDE = "hide"
    """A client's DELETE: no client sees the operation any more. A running attempt goes on until its end."""
    PATCH = "patch"
    """A client's PATCH of its own members. The stage stays."""
    EXPIRE = "expire"
    """The sweeper found that retention ended."""
    FORGET = "forget"
    """The sweeper found that the tombstone's time ended."""


LOG_EVENTS: Mapping[Transition, str] = {
    Transition.CREATE: "operation_created",
    Transition.CLAIM: "operation_started",
    Transition.PARK: "operation_parked",
    Transition.SUCCEED: "operation_completed",
    Transition.FAIL: "operation_failed",
    Transition.RETRY: "operation_retried",
    Transition.HAND_BACK: "operation_handed_back",
    Transition.LOSE: "lease_lost",
    Transition.VANISH: "ticket_vanished",
    Transition.MISS: "operation_not_started",
    Transition.DUE: "operation_due",
    Transition.PROGRESS: "operation_progressed",
    Transition.REQUEST_CANCEL: "cancel_requested",
    Transition.CANCEL: "operation_canceled",
    Transition.HIDE: "operation_deleted",
    Transition.PATCH: "operation_patched",
}
"""The stable name of the log event for each transition.

`release`, `expire` and `forget` happen inside Redis and are not logged.
"""

_WAITING = frozenset({Stage.QUEUED, Stage.DELAYED, Stage.PARKED})
FINAL = frozenset({Stage.COMPLETED, Stage.FAILED})
_SHOWN = _WAITING | {Stage.RUNNING} | FINAL
_NOTHING: frozenset[Stage] = frozenset()

TRANSITIONS: Mapping[Transition, tuple[frozenset[Stage], frozenset[Stage]]] = {
    Transition.CREATE: (_NOTHING, _WAITING),
    Transition.CLAIM: (frozenset({Stage.QUEUED}), frozenset({Stage.RUNNING})),
    Transition.PARK: (frozenset({Stage.QUEUED}), frozenset({Stage.PARKED})),
    Transition.RELEASE: (frozenset({Stage.PARKED}), frozenset({Stage.QUEUED})),
    Transition.SUCCEED: (frozenset({Stage.RUNNING}), frozenset({Stage.COMPLETED})),
    Transition.FAIL: (frozenset({Stage.RUNNING}), frozenset({Stage.FAILED})),
    Transition.RETRY: (frozenset({Stage.RUNNING}), frozenset({Stage.DELAYED})),
    Transition.HAND_BACK: (frozenset({Stage.RUNNING}), frozenset({Stage.QUEUED, Stage.DELAYED})),
    Transition.LOSE: (frozenset({Stage.RUNNING}), frozenset({Stage.DELAYED, Stage.FAILED})),
    Transition.VANISH: (frozenset({Stage.QUEUED}), frozenset({Stage.DELAYED, Stage.FAILED})),
    Transition.MISS: (_WAITING, frozenset({Stage.FAILED})),
    Transition.DUE: (frozenset({Stage.DELAYED}), frozenset({Stage.QUEUED, Stage.PARKED})),
    Transition.PROGRESS: (frozenset({Stage.RUNNING}), frozenset({Stage.RUNNING})),
    Transition.REQUEST_CANCEL: (frozenset({Stage.RUNNING}), frozenset({Stage.RUNNING})),
    Transition.CANCEL: (_WAITING | frozenset({Stage.RUNNING}), frozenset({Stage.FAILED})),
    Transition.HIDE: (frozenset({Stage.RUNNING}) | FINAL, frozenset({Stage.RUNNING, Stage.TOMBSTONE})),
    Transition.PATCH: (_SHOWN, _SHOWN),
    Transition.EXPIRE: (FINAL, frozenset({Stage.TOMBSTONE})),
    Transition.FORGET: (frozenset({Stage.TOMBSTONE}), _NOTHING),
}
"""The stages that each transition leaves, and the stages that it may lead to.

When a hidden operation reaches a final stage, its tombstone is written at once. A patch keeps the stage.
"""
