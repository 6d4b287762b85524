"""Rules that every run must keep, checked on the journals of the run.

This module imports nothing from the tracker, so that a defect of the tracker cannot change the checks. Each rule yields
its violations. Sometimes the journals cannot tell whether the tracker was right: a lease may have run out, or the
server was away. There a rule assumes that the tracker was right, and its docstring or a constant says how far.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from chaos.history import FAULTS, FINAL, NOT_LISTED, POISON, Attempt, History, Sight
from chaos.leases import TAKEN_OVER, live_until, takeovers, unsettled

MISSING, GONE = 404, 410
CANCELED, LOST, RAISED, TIMED_OUT = 499, 503, 500, 408
CLOCKS = 0.05
"""Seconds by which the server's clock, which ends delays, may run ahead of the clock of the journals at most."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, and the id of the operation that broke it; empty where the rule is not about an operation."""

    rule: str
    text: str
    operation: str = ""


Found = Iterator[tuple[str, str]]
"""Violations of one rule: operation id and text."""


def ends(history: History, within: float) -> Found:
    """Clients see the end of each operation that no client deletes, `within` seconds after the last fault at most."""
    for told in history.operations.values():
        if told.delete_asked < inf:
            continue
        if told.final is None:
            yield told.id, "was accepted and never seen to have ended"
        elif told.final.answered > history.stopped + within:
            yield told.id, f"ended {told.final.answered - history.stopped:.1f} s after the last fault"


def never_changes(history: History) -> Found:
    """Every answer about an ended operation says the same."""
    for told in history.operations.values():
        finals = {
            (sight.status, sight.attempt, sight.code, sight.subcode, sight.message, sight.ended)
            for sight in told.seen
            if sight.rank == FINAL
        }
        if len(finals) > 1:
            yield told.id, f"changed after its end: {sorted(finals)}"


def never_goes_back(history: History) -> Found:
    """A read that begins after another read was answered shows no earlier state of the operation."""
    for told in history.operations.values():
        for before in told.seen:
            for after in told.seen:
                if before.answered < after.asked and (after.rank < before.rank or after.attempt < before.attempt):
                    yield told.id, f"went back from {_short(before)} to {_short(after)}"


def stays(history: History) -> Found:
    """Clients can read an operation after the answer to its create until its delete, and not after the delete."""
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
    """The outcome of an operation comes from its last attempt, and the handler of that attempt ended accordingly."""
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
    """An operation ends with the code of its type.

    Two other ends are allowed: canceled, if a client asked to cancel it, and lost, if its attempts were used up.
    """
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
    """No more attempts of an operation fail than its type allows.

    An attempt does not count if a fault met its worker before the outcome was certainly written. The tracker may have
    handed such an attempt back without charging the attempt.
    """
    for told in history.operations.values():
        failed = [each for each in told.attempts if each.how == "failed" and not unsettled(each, history.faults)]
        if len(failed) > told.kind.attempts:
            yield told.id, f"failed in {len(failed)} attempts, its type has {told.kind.attempts}"


def waits(history: History) -> Found:
    """No attempt starts before the delay of its operation is over."""
    for told in history.operations.values():
        if early := [each.number for each in told.attempts if each.start < told.may_start - CLOCKS]:
            yield told.id, f"began attempt {early[0]} before its delay was over"


def never_crowded(history: History) -> Found:
    """The serial operations of a call run one at a time. A type with a cap never runs more attempts than its cap."""
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
    """The operations of a worker that died run again in time (`chaos.leases.takeovers`)."""
    for each in takeovers(history):
        if each.after > each.within:
            yield each.operation, f"ran again {each.after:.1f} s after its worker's death, not within {each.within:g} s"


def lives(history: History) -> Found:
    """No process ends unless a fault killed the process."""
    starts: dict[str, list[float]] = defaultdict(list)
    for at, name in sorted(history.starts):
        starts[name].append(at)
    for name, times in starts.items():
        for before, after in pairwise(times):
            if not any(each.lethal and each.target == name and before <= each.at <= after for each in history.faults):
                yield "", f"{name}, started at {before:.1f}, ended by itself before {after:.1f}"


def answers_well(history: History) -> Found:
    """No client receives an answer that reports a defect of the tracker or an error of the client."""
    yield from (("", text) for text in history.odd)


RULES: Sequence[Callable[[History], Found]] = (
    *(never_changes, never_goes_back, stays, fenced, as_expected, charged, waits, never_crowded, is_taken_over, lives),
    answers_well,
)


def check(history: History, *, within: float, complete: bool = False) -> list[Violation]:
    """All violations in a run.

    `within`: the longest time in seconds from the last fault until every operation has ended. With `complete` a run
    also needs each kind of fault at least once, and at least one takeover after a worker's death in quiet times.
    """
    found = [Violation("ends", text, operation) for operation, text in ends(history, within)]
    for rule in RULES:
        found += [Violation(rule.__name__, text, operation) for operation, text in rule(history)]
    if complete:
        done = {fault.kind for fault in history.faults}
        found += [Violation("complete", f"no {kind}") for kind in (*FAULTS, POISON) if kind not in done]
        if not any(each.within == TAKEN_OVER and each.fault.kind == "kill worker" for each in takeovers(history)):
            found.append(Violation("complete", "no worker died in quiet times with operations at hand"))
    return found


def _short(sight: Sight) -> str:
    return f"{sight.status} in attempt {sight.attempt}"
