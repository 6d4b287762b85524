"""Judges a run by its journals alone. Imports nothing of the tracker's.

Each rule below yields what breaks it. Where clients and handlers cannot know who was right (a lease that may have run
out, a server that was away), a rule gives the tracker the benefit of the doubt, and says how much.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from chaos.history import FAULTS, FINAL, NOT_LISTED, Attempt, History, Sight
from chaos.leases import TAKEN_OVER, live_until, takeovers, unsettled

MISSING, GONE = 404, 410
CANCELED, LOST, RAISED, TIMED_OUT = 499, 503, 500, 408
CLOCKS = 0.05
"""Seconds by which the server's clock, which delays are counted by, may run away from ours."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, by which operation if by one."""

    rule: str
    text: str
    operation: str = ""


Found = Iterator[tuple[str, str]]
"""Operation and text of what breaks a rule."""


def ends(history: History, within: float) -> Found:
    """Every accepted operation that is not deleted is seen to have ended, in time after the last fault."""
    for told in history.operations.values():
        if told.delete_asked < inf:
            continue
        if told.final is None:
            yield told.id, "was accepted and never seen to have ended"
        elif told.final.answered > history.stopped + within:
            yield told.id, f"ended {told.final.answered - history.stopped:.1f} s after the last fault"


def never_changes(history: History) -> Found:
    """All who see it ended see the same."""
    for told in history.operations.values():
        finals = {
            (sight.status, sight.attempt, sight.code, sight.subcode, sight.message, sight.ended)
            for sight in told.seen
            if sight.rank == FINAL
        }
        if len(finals) > 1:
            yield told.id, f"changed after its end: {sorted(finals)}"


def never_goes_back(history: History) -> Found:
    """Who asks after somebody else was answered sees it no less far."""
    for told in history.operations.values():
        for before in told.seen:
            for after in told.seen:
                if before.answered < after.asked and (after.rank < before.rank or after.attempt < before.attempt):
                    yield told.id, f"went back from {_short(before)} to {_short(after)}"


def stays(history: History) -> Found:
    """It is there from the answer to its create until its delete, and gone after that."""
    for told in history.operations.values():
        for sight in told.sights:
            known = sight.asked > told.accepted
            if (sight.http == MISSING and known) or (
                sight.http in {NOT_LISTED, GONE} and known and sight.answered < told.delete_asked
            ):
                yield told.id, "was gone" if sight.http else "was missing in its call's list"
            elif sight.http not in {NOT_LISTED, GONE, MISSING} and sight.asked > told.deleted:
                yield told.id, "was there after it had been deleted"


def fenced(history: History) -> Found:
    """The outcome is that of the last attempt, and of one that ended so."""
    for told in history.operations.values():
        if (final := told.final) is None:
            continue
        if late := [each.number for each in told.attempts if each.number > final.attempt]:
            yield told.id, f"ended in attempt {final.attempt}, but attempt {late[0]} has run"
        if final.message.startswith("attempt ") and final.message != f"attempt {final.attempt}":
            yield told.id, f"has the outcome of {final.message}, and has ended in attempt {final.attempt}"
        if final.status == "Completed" and not any(
            each.number == final.attempt and each.how == "succeeded" for each in told.attempts
        ):
            yield told.id, f"is Completed, but attempt {final.attempt} did not succeed"


def as_expected(history: History) -> Found:
    """It ends as its type does, or canceled when somebody asked for that, or for want of attempts."""
    for told in history.operations.values():
        if (final := told.final) is None:
            continue
        if final.code not in {told.kind.code, CANCELED, LOST}:
            yield told.id, f"ended with {final.code}/{final.subcode} ({final.message})"
        if final.code == CANCELED and told.cancel_asked > final.answered:
            yield told.id, "was canceled, and nobody had asked for it"
        if final.code == LOST and final.subcode != 1:
            yield told.id, f"was given up: {final.subcode} ({final.message})"
        if final.code in {RAISED, LOST, TIMED_OUT} and final.attempt < told.kind.attempts:
            yield told.id, f"was given up after attempt {final.attempt} of {told.kind.attempts}"


def charged(history: History) -> Found:
    """No more attempts fail than the type has.

    One whose worker was hit before its outcome was surely written may have been handed back, uncharged: it does not
    count.
    """
    for told in history.operations.values():
        failed = [each for each in told.attempts if each.how == "failed" and not unsettled(each, history.faults)]
        if len(failed) > told.kind.attempts:
            yield told.id, f"failed in {len(failed)} attempts, its type has {told.kind.attempts}"


def waits(history: History) -> Found:
    """It does not start before it may."""
    for told in history.operations.values():
        if early := [each.number for each in told.attempts if each.start < told.may_start - CLOCKS]:
            yield told.id, f"began attempt {early[0]} before its delay was over"


def never_crowded(history: History) -> Found:
    """A call's serial operations run one at a time, and of a capped type no more than its cap."""
    groups: dict[tuple[str, int], list[tuple[float, float, Attempt]]] = defaultdict(list)
    for told in history.operations.values():
        if told.kind.serial or told.kind.cap:
            name = (told.call, 1) if told.kind.serial else (told.type, told.kind.cap)
            groups[name] += [(each.start, live_until(each, history.faults), each) for each in told.attempts]
    for (_, cap), spans in groups.items():
        running: list[tuple[float, float, Attempt]] = []
        for span in sorted(spans, key=lambda each: each[0]):
            running = [each for each in running if each[1] > span[0]]
            if len(running) >= cap:
                others = ", ".join(f"{each.operation} attempt {each.number}" for _, _, each in running)
                yield span[2].operation, f"attempt {span[2].number} began beside {others}"
            running.append(span)


def is_taken_over(history: History) -> Found:
    """The operations of a dead worker run again soon."""
    for each in takeovers(history):
        if each.after > each.within:
            yield each.operation, f"ran again {each.after:.1f} s after its worker's death, not within {each.within:g} s"


def lives(history: History) -> Found:
    """Nothing ends that was not killed."""
    starts: dict[str, list[float]] = defaultdict(list)
    for at, name in sorted(history.starts):
        starts[name].append(at)
    for name, times in starts.items():
        for before, after in pairwise(times):
            if not any(each.lethal and each.target == name and before <= each.at <= after for each in history.faults):
                yield "", f"{name}, started at {before:.1f}, ended by itself before {after:.1f}"


def answers_well(history: History) -> Found:
    """No client is told of a defect, or that its request is wrong."""
    yield from (("", text) for text in history.odd)


RULES: Sequence[Callable[[History], Found]] = (
    *(never_changes, never_goes_back, stays, fenced, as_expected, charged, waits, never_crowded, is_taken_over, lives),
    answers_well,
)


def check(history: History, *, within: float, complete: bool = False) -> list[Violation]:
    """Everything that breaks a rule.

    `within` is how many seconds after the last fault all must have ended; `complete` asks that every kind of fault
    has been there, and that there was something to judge takeovers by.
    """
    found = [Violation("ends", text, operation) for operation, text in ends(history, within)]
    for rule in RULES:
        found += [Violation(rule.__name__, text, operation) for operation, text in rule(history)]
    if complete:
        done = {fault.kind for fault in history.faults}
        found += [Violation("complete", f"no {kind}") for kind in FAULTS if kind not in done]
        if not any(each.within == TAKEN_OVER and each.fault.kind == "kill worker" for each in takeovers(history)):
            found.append(Violation("complete", "no worker died in quiet times with operations at hand"))
    return found


def _short(sight: Sight) -> str:
    return f"{sight.status} in attempt {sight.attempt}"
