"""What may be said for sure of attempts whose workers are killed and stopped. Imports nothing of the tracker's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from chaos.history import DROPS, OUTAGES, PAUSES, Attempt, Fault, History, Told

HOLDS = 6.0
"""Seconds that an attempt surely keeps its lease when its worker or the server stops: the lease's 10, less 2 since the
last beat, less 2 that this beat was late."""
DYING = 0.3
"""Seconds that a host may live on, and even begin an attempt, after its manager was killed; a new worker takes longer
to start."""
TAKEN_OVER = 15.0
"""Seconds from a worker's death until its operation runs again."""
LOCK = 6.0
"""Seconds more when whoever sweeps may have died or stopped meanwhile: its lock's 5, and a sweep's 1."""
MERCY = 8.0
"""Seconds more after connections broke: sweepers that noticed spare every lease for 6, and had to notice."""
SETTLED = 3.0
"""Seconds from a handler's end until the outcome is surely written, if nothing is done to its worker or the server."""
SEEN_LATE = 1.0
"""Seconds that clients may learn of a new attempt after it began."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An operation that lost its worker by the fault and ran again, or was seen to, `after` seconds later."""

    operation: str
    fault: Fault
    after: float
    within: float


def live_until(attempt: Attempt, faults: Sequence[Fault]) -> float:
    """Until when an attempt surely is the current one.

    That is its end, its process's death, or as long as its lease surely holds when its worker stops or the server is
    away.
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
    """Operations that ran when their worker died, and again after that.

    Only those that nothing but the lack of a worker keeps waiting are looked at, and only while the server was there.
    """
    prompt = [told for told in history.operations.values() if told.kind.prompt]
    for fault in history.faults:
        within = _within(fault, history.faults)
        if within is None:
            continue
        for told in prompt:
            last = max((each for each in told.attempts if each.start < fault.at), key=lambda a: a.number, default=None)
            if last is None or not _kills(fault, last) or not _at_hand(told, last, fault.at):
                continue
            again = _again(told, last.number)
            if again is not None and again > fault.at:
                yield Takeover(told.id, fault, again - fault.at, within)


def _within(death: Fault, faults: Sequence[Fault]) -> float | None:
    """Seconds that a takeover may take; None when nobody can say."""
    end = death.at + TAKEN_OVER
    if any(each.kind in OUTAGES and each.at < end and each.over + MERCY > death.at for each in faults):
        return None
    others = [each for each in faults if each is not death]
    broken = any(each.kind in DROPS and death.at - MERCY < each.at < end for each in others)
    stopped = any(each.kind not in DROPS and death.at < each.at < end for each in others)
    return TAKEN_OVER + MERCY * broken + LOCK * stopped


def _at_hand(told: Told, attempt: Attempt, at: float) -> bool:
    """Whether the attempt was not over for its clients: it had not ended, or its end was not seen."""
    return (attempt.end is None or attempt.end > at - SETTLED) and (told.final is None or told.final.answered > at)


def _again(told: Told, number: int) -> float | None:
    """When a later attempt began, by its handler's word or by what clients were told."""
    begun = [each.start for each in told.attempts if each.number > number]
    seen = [sight.answered - SEEN_LATE for sight in told.seen if sight.attempt > number]
    return min([*begun, *seen], default=None)


def _kills(fault: Fault, attempt: Attempt) -> bool:
    if fault.kind == "kill host":
        return fault.pid == attempt.pid and fault.target == attempt.worker
    return fault.lethal and fault.target == attempt.worker


def unsettled(attempt: Attempt, faults: Sequence[Fault]) -> bool:
    """Whether the attempt's worker was hit before the outcome was surely written."""
    ended = attempt.end or attempt.start
    written = ended + SETTLED
    for fault in sorted(faults, key=lambda each: each.at):
        touching = fault.kind in OUTAGES or fault.kind in DROPS or fault.target == attempt.worker
        if touching and fault.at <= written and fault.over >= ended:
            if _kills(fault, attempt):
                return True
            written = max(written, fault.over + SETTLED)
    return False
