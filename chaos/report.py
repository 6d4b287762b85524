"""Report on a run: counts of operations and faults, and each violation with the events around it.

`python -m chaos.report DIRECTORY` checks the journals of an earlier run again.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from statistics import median

from chaos.checker import Violation, check
from chaos.history import DROPS, FAULTS, OUTAGES, Attempt, Fault, History, Told, read
from chaos.leases import TAKEN_OVER, live_until, takeovers

AROUND = 3.0
"""Seconds before an operation's first event and after its last event in which a story shows faults."""
TOLD_IN_FULL = 10
"""How many violations are printed with the story of their operation at most."""


def report(history: History, violations: Sequence[Violation]) -> Iterator[str]:
    """The lines of the report: counts first, then the violations, each with the story of its operation."""
    yield from _counts(history)
    for violation in violations[:TOLD_IN_FULL]:
        yield f"VIOLATION of {violation.rule}: {violation.operation or ''} {violation.text}"
        if violation.operation:
            yield from (f"    {line}" for line in story(history, violation.operation))
    if len(violations) > TOLD_IN_FULL:
        rest = Counter(violation.rule for violation in violations[TOLD_IN_FULL:])
        yield f"and {sum(rest.values())} more: {', '.join(f'{count} of {rule}' for rule, count in rest.items())}"
    yield f"{len(violations)} violations"


def story(history: History, operation: str) -> Iterator[str]:
    """The events of an operation and the faults during its life, in order of time.

    Times are seconds since the API accepted the operation.
    """
    told = history.operations[operation]
    lines = [*_signs(told)]
    first, last = min(lines)[0] - AROUND, max(lines)[0] + AROUND
    for fault in history.faults:
        if fault.at < last and fault.over > first:
            lines.append((fault.at, f"                fault: {fault.kind} {fault.target} (process {fault.pid})"))
            if first < fault.over < last and fault.over > fault.at:
                lines.append((fault.over, f"                over:  {fault.kind} {fault.target}"))
    yield f"{told.type} {told.id} of {told.call}"
    for at, line in sorted(lines):
        yield f"{at - told.accepted:9.3f} s  {line}"


def _signs(told: Told) -> Iterator[tuple[float, str]]:
    yield told.accepted, "accepted"
    for at, what in ((told.cancel_asked, "cancel"), (told.delete_asked, "delete")):
        if at < inf:
            yield at, f"asked to {what}"
    if told.deleted < inf:
        yield told.deleted, "deleted"
    for sight in told.sights:
        text = f"{sight.status} attempt {sight.attempt} {sight.code}/{sight.subcode} {sight.message} {sight.ended}"
        yield sight.answered, f"        seen: {sight.http} {text}, last asked at {sight.asked - told.accepted:.3f}"
    for attempt in told.attempts:
        about = f"attempt {attempt.number} in process {attempt.pid} of {attempt.worker}"
        yield attempt.start, f"    start: {about}"
        if attempt.end is not None:
            yield attempt.end, f"    end: {about}, {attempt.how}"


def _counts(history: History) -> Iterator[str]:
    operations = history.operations.values()
    ends = Counter(f"{told.final.status} {told.final.code}" if told.final else "deleted" for told in operations)
    attempts = sum(len(told.attempts) for told in operations)
    sights = sum(len(told.sights) for told in operations)
    yield f"{len(operations)} operations: {', '.join(f'{count} {end}' for end, count in sorted(ends.items()))}"
    types = Counter(told.type for told in operations)
    yield f"    {', '.join(f'{count} {name}' for name, count in sorted(types.items()))}"
    asked = sum(told.cancel_asked < inf for told in operations)
    yield f"{attempts} attempts, {asked} cancels, {sights} changes seen"
    yield from _faults(history)
    for quiet in (True, False):
        took = [each.after for each in takeovers(history) if (each.within == TAKEN_OVER) is quiet]
        when = "in quiet times" if quiet else "with other faults meanwhile"
        if took:
            yield f"taken over {when}: {len(took)}, median {median(took):.1f} s, longest {max(took):.1f} s"


def _faults(history: History) -> Iterator[str]:
    """How often each kind of fault came, and how many attempts were running at the target."""
    attempts = [each for told in history.operations.values() for each in told.attempts]
    spans = [(each, live_until(each, history.faults)) for each in attempts]
    for kind in FAULTS:
        faults = [each for each in history.faults if each.kind == kind]
        met = sum(each.start < fault.at <= until and _meets(fault, each) for fault in faults for each, until in spans)
        yield f"{kind:15} {len(faults):5} times, with {met} attempts at hand"


def _meets(fault: Fault, attempt: Attempt) -> bool:
    if fault.kind in OUTAGES or fault.kind in DROPS:
        return True
    return fault.target == attempt.worker and (fault.kind != "kill host" or fault.pid == attempt.pid)


def main(directory: Path, *, within: float = inf, complete: bool = False) -> bool:
    """Check the journals of a run and print the report. Returns whether there was no violation."""
    history = read(directory)
    violations = check(history, within=within, complete=complete)
    for line in report(history, violations):
        print(line)
    return not violations


if __name__ == "__main__":
    sys.exit(0 if main(Path(sys.argv[1])) else 1)
