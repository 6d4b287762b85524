"""The table of transitions: what can happen to an operation, from which stages, and where it leads."""

from collections.abc import Mapping
from enum import StrEnum


class Stage(StrEnum):
    """Where the lifecycle has the operation. Each member says who moves it on."""

    DELAYED = "delayed"
    """Waits until it is due (not before, or backoff); the sweeper queues it, or a cancel ends it."""
    QUEUED = "queued"
    """A ticket is out; a worker's claim starts it, the sweeper notices when the ticket vanished."""
    PARKED = "parked"
    """Waits for others (its call's line, its type's cap or rate, a worker with its type); their release queues it."""
    RUNNING = "running"
    """An attempt holds the lease; its worker ends it, or the sweeper when the lease runs out."""
    COMPLETED = "completed"
    """Final; the sweeper makes it a tombstone when its retention ends."""
    FAILED = "failed"
    """Final; as completed."""
    TOMBSTONE = "tombstone"
    """Only the id and the final status are left; the sweeper forgets it when its time is over."""


class Transition(StrEnum):
    """What can happen to an operation. Each member says who makes it happen."""

    CREATE = "create"
    """A client's POST."""
    CLAIM = "claim"
    """A worker takes the ticket and begins the next attempt."""
    PARK = "park"
    """A worker found that it may not start yet: a cap or rate is reached, or the worker lacks the type."""
    RELEASE = "release"
    """What it waited for is over: its call's line moved up, its gate opened, a worker with its type came."""
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
    MISS = "miss"
    """The sweeper found that it had not started in time."""
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
    PATCH = "patch"
    """A client's PATCH of what is its own: the stage stays."""
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
"""The log's stable name for each transition.

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
    Transition.HAND_BACK: (frozenset({Stage.RUNNING}), frozenset({Stage.QUEUED})),
    Transition.LOSE: (frozenset({Stage.RUNNING}), frozenset({Stage.QUEUED, Stage.FAILED})),
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
"""From which stages a transition leaves, and where it may lead. A final stage of a hidden operation is written as
its tombstone at once; a patch leads back to the stage that it leaves."""
