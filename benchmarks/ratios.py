"""Comparison of two trees: alternating measurements, the ratio of each pair of them, and their table."""

import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import NamedTuple

from benchmarks.trees import THIS, Tree, described

Figures = dict[tuple[str, str], float]
"""The measurements of one tree, by row and unit: `{("create", "op/s"): 4100.0, …}`."""
Turns = Sequence[Mapping[Tree, Figures]]
"""The figures of both trees in each turn of a round."""
Measure = Callable[[Sequence[Tree]], Awaitable[Turns]]
"""Measures one round: starts both trees, in the order given, and measures both in one or more turns."""


class NotMeasured(Exception):
    """A measurement that failed. The message says why."""


class Pair(NamedTuple):
    """The figures of both trees, measured one directly after the other."""

    this: Figures
    that: Figures


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds are measured: at most `most`, and as many as end within `minutes`. The first always runs."""

    most: int
    minutes: float

    def another(self, took: Sequence[float]) -> bool:
        """Whether to begin another round. `took` has the seconds of each round so far.

        The next round is expected to take as long as the longest one so far.
        """
        if not took:
            return True
        return len(took) < self.most and sum(took) + max(took) <= self.minutes * 60


async def compare(that: Tree, rounds: Rounds, measure: Measure) -> list[Pair]:
    """Measure rounds of this tree and of another one. The tree that comes first changes from round to round.

    A round that raises NotMeasured or TimeoutError is left out. Exits with the last message when no round is left.
    """
    measured: list[Pair] = []
    took: list[float] = []
    failure = ""
    while rounds.another(took):
        begun = time.monotonic()
        try:
            turns = await measure(in_turn((THIS, that), len(took)))
        except (NotMeasured, TimeoutError) as error:
            failure = str(error) or "something took too long"
            note(f"round {len(took) + 1} is left out: {failure}")
        else:
            measured += (Pair(turn[THIS], turn[that]) for turn in turns)
        took.append(time.monotonic() - begun)
        note(f"round {len(took)} took {took[-1]:.0f} s")
    if not measured:
        raise SystemExit(f"no round was measured: {failure}")
    return measured


def in_turn(trees: Sequence[Tree], number: int) -> Sequence[Tree]:
    """The order of both trees in their measurement of that number: the given order, then its reverse, and so on."""
    return trees[::-1] if number % 2 else trees


def no_figures(order: Sequence[Tree], turns: int) -> Turns:
    """So many turns, to be filled with figures."""
    return [{tree: {} for tree in order} for _ in range(turns)]


def note(line: str) -> None:
    """Report progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def report(measured: Sequence[Pair], that: Tree) -> None:
    """Print the table of a comparison."""
    print(f"\n{described()}; the figures of each tree are medians")
    print(f"ratio: this tree / {that.name}, the median of all pairs of measurements")
    print("95 %: the interval that holds the true median with this probability; other work on the machine widens it\n")
    print(*table(measured, that.name), sep="\n", flush=True)


def table(measured: Sequence[Pair], that: str) -> list[str]:
    """Lines of text: one for each row and unit, with the median of each tree and the ratios of the pairs."""
    rows: list[tuple[str, ...]] = [("row", "unit", "this tree", that, "ratio", "95 %", "least-most", "pairs")]
    names = dict.fromkeys(name for one in measured for figures in one for name in figures)
    for name in names:
        pairs = [(one.this[name], one.that[name]) for one in measured if name in one.this and name in one.that]
        rows.append((*name, *_compared(pairs)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])]).rstrip() for row in rows
    ]


def ratios(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """This tree's figure divided by the other's. Pairs in which the other's is zero are left out."""
    return [this / that for this, that in pairs if that]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the median. None for less than six values, which are too few.

    How many of n values are less than the true median is binomial (n, 1/2), for any distribution of the values. The
    interval leaves out as many values at each end as have together a probability of at most 5 %.
    """
    ascending, count = sorted(values), len(values)
    outside, beyond = 2 * 0.5**count, 0
    while outside <= 0.05:
        beyond += 1
        outside += 2 * comb(count, beyond) * 0.5**count
    return (ascending[beyond - 1], ascending[-beyond]) if beyond else None


def _compared(pairs: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    if not pairs:
        return ("-", "-", "-", "-", "only one tree has it", "0")
    this, that = (shown(median(column)) for column in zip(*pairs, strict=True))
    if not (found := ratios(pairs)):
        return (this, that, "-", "-", "-", "0")
    within = interval(found)
    likely = "-" if within is None else f"{within[0]:.3f}-{within[1]:.3f}"
    return (this, that, f"{median(found):.3f}", likely, f"{min(found):.3f}-{max(found):.3f}", str(len(found)))


def shown(figure: float) -> str:
    """A figure in four digits or more."""
    if abs(figure) >= 1000 or figure == int(figure):
        return f"{figure:,.0f}"
    return f"{figure:.{max(1, 3 - len(str(int(abs(figure)))))}f}"
