"""Bounds on leases and takeovers, for attempts whose worker is killed or paused.

The constants are bounds on times that the tracker promises. This module imports nothing from the tracker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from chaos.history import DROPS, FAIL_FORK, OUTAGES, PAUSES, POISON, Attempt, Fault, History, Told

LEASE = 10.0
"""The length of a lease in seconds."""
HOLDS = 6.0
"""Seconds that an attempt keeps its lease at least after its worker or the server stops. A lease lasts 10 s, the last
heartbeat is up to 2 s old, and that heartbeat may have been 2 s late."""
DYING = 0.3
"""The longest time in seconds that a host lives after its manager was killed. The host may still begin an attempt in
that time. A new worker takes longer to start."""
TAKEN_OVER = 15.0
"""The longest time in seconds from a worker's death until its operations run again, without other faults."""
LOCK = 6.0
"""Seconds added if a fault may have met the process that sweeps: its lock lasts 5 s, and a sweep takes 1 s."""
MERCY = 8.0
"""Seconds added after connections broke: a sweeper that notices a break expires no lease for 6 s, and may need 2 s to
notice."""
BACKLOG = 20
"""How many operations wait for a worker at most when a takeover is checked. More would make it wait, too."""
SETTLED = 3.0
"""The longest time in seconds from a handler's end until its outcome is written, without faults at worker or server."""
SEEN_LATE = 1.0
"""The longest time in seconds from the start of an attempt until clients see the attempt."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An operation whose worker died by `fault`, and which ran again `after` seconds later.

    `within`: the longest time in seconds that the takeover may take.
    """

    operation: str
    fault: Fault
    after: float
    within: float


def live_until(attempt: Attempt, faults: Sequence[Fault]) -> float:
    """The time until which an attempt is certainly the current attempt of its operation.

    The time is the earliest of three: the attempt's end, the death of its process, and HOLDS seconds after a pause of
    its worker or an outage of the server began.
    """
    until = inf if attempt.end is None else attempt.end
    for fault in faults:
        dying = DYING if fault.lethal and fault.target == attempt.worker else 0.0
        if fault.over + dying < attempt.start or fault.at > until:
            continue
        if fault.kind in OUTAGES or (fault.target == attempt.worker and fault.kind in PAUSES):
            until = min(until, fault.at + HOLDS)
        elif _kills(fault, attempt):
            until = min(until, max(fault.at, attempt.start))
    return until


def takeovers(history: History) -> Iterator[Takeover]:
    """The operations that ran when their worker died, and that ran again later.

    Operations that may wait for something else than a worker (`Kind.prompt`) are left out. So are those of which an
    earlier attempt died, or may have died before its handler began, because they wait longer, and perhaps for a worker
    that runs nothing else. So are deaths by poison, and deaths near an outage of the server, because the tracker
    promises no time there.
    """
    prompt = [told for told in history.operations.values() if told.kind.prompt]
    for fault in history.faults:
        within = _within(fault, history.faults)
        if within is None or fault.kind == POISON or _backlog(prompt, fault.at) > BACKLOG:
            continue
        for told in prompt:
            last = max((each for each in told.attempts if each.start < fault.at), key=lambda a: a.number, default=None)
            if last is None or not _kills(fault, last) or not _at_hand(told, last, fault.at):
                continue
            before = [each for each in told.attempts if each.number < last.number]
            if len(before) < last.number - 1:  # a process died before the handler of an earlier attempt began
                continue
            if any(_kills(each, attempt) for attempt in before for each in history.faults):
                continue
            again = _again(told, last.number)
            if again is not None and again > fault.at:
                yield Takeover(told.id, fault, again - fault.at, within)


def _backlog(prompt: Sequence[Told], at: float) -> int:
    """How many operations that may start wait for a worker at that time: no attempt runs."""
    return sum(
        max(told.accepted, told.may_start) < at - SEEN_LATE
        and (told.final is None or told.final.answered > at)
        and told.cancel_asked > at
        and told.delete_asked > at
        and not any(each.start < at and (each.end is None or each.end > at - SEEN_LATE) for each in told.attempts)
        for told in prompt
    )


def _within(death: Fault, faults: Sequence[Fault]) -> float | None:
    """The longest time in seconds that a takeover may take; None near an outage of the server.

    A worker that was paused before the death may have held the sweeper's lock.
    """
    end = death.at + TAKEN_OVER
    others = [each for each in faults if each is not death and each.kind not in {FAIL_FORK, POISON}]
    broken = any(each.kind in DROPS and death.at - MERCY < each.at < end for each in others)
    stopped = any(each.kind not in DROPS and each.at < end and each.over > death.at for each in others)
    within = TAKEN_OVER + MERCY * broken + LOCK * stopped
    if any(each.kind in OUTAGES and each.at < death.at + within and each.over + MERCY > death.at for each in faults):
        return None
    return within


def _at_hand(told: Told, attempt: Attempt, at: float) -> bool:
    """Whether the worker still held the attempt at that time.

    The handler had not ended or its outcome may not have been written, and no client had seen the operation's end.
    """
    return (attempt.end is None or attempt.end > at - SETTLED) and (told.final is None or told.final.answered > at)


def _again(told: Told, number: int) -> float | None:
    """When a later attempt began: the earliest time in the handlers' journal or in the answers to clients."""
    begun = [each.start for each in told.attempts if each.number > number]
    seen = [sight.answered - SEEN_LATE for sight in told.seen if sight.attempt > number]
    return min([*begun, *seen], default=None)


def _kills(fault: Fault, attempt: Attempt) -> bool:
    if fault.kind in {"kill host", POISON}:
        return fault.pid == attempt.pid and fault.target == attempt.worker
    return fault.lethal and fault.target == attempt.worker


def unsettled(attempt: Attempt, faults: Sequence[Fault]) -> bool:
    """Whether a fault met the attempt's worker before the outcome was certainly written."""
    ended = attempt.end or attempt.start
    written = ended + SETTLED
    for fault in sorted(faults, key=lambda each: each.at):
        touching = fault.kind in OUTAGES or fault.kind in DROPS or fault.target == attempt.worker
        if touching and fault.at <= written and fault.over >= ended:
            if _kills(fault, attempt):
                return True
            written = max(written, fault.over + SETTLED)
    return False
