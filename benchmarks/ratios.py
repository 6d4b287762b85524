"""Comparison of two trees: alternating rounds, the ratios of each round, and their table."""

import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmarks.trees import THIS, Tree, described

Figures = Mapping[tuple[str, str], float]
"""What one round measures of one tree, by row and unit: `{("create", "op/s"): 4100.0, …}`."""
Measure = Callable[[Sequence[Tree]], Awaitable[Mapping[Tree, Figures]]]
"""Measures one round of both trees, in the order given."""


class NotMeasured(Exception):
    """A measurement that failed. The message says why."""


class Round(NamedTuple):
    """The figures of both trees, measured one after the other."""

    this: Figures
    that: Figures


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds are measured: at most `most`, and as many as end within `minutes`. The first always runs."""

    most: int
    minutes: float

    def another(self, took: Sequence[float]) -> bool:
        """Whether to begin another round after rounds of so many seconds.

        The next round is expected to take as long as the longest one so far.
        """
        if not took:
            return True
        return len(took) < self.most and sum(took) + max(took) <= self.minutes * 60


async def compare(that: Tree, rounds: Rounds, measure: Measure) -> list[Round]:
    """Measure rounds of this tree and of another one. The tree that comes first changes from round to round.

    A round that raises NotMeasured or TimeoutError is left out. Exits with the last message when no round is left.
    """
    measured: list[Round] = []
    took: list[float] = []
    failure = ""
    while rounds.another(took):
        begun = time.monotonic()
        try:
            figures = await measure((that, THIS) if len(took) % 2 else (THIS, that))
        except (NotMeasured, TimeoutError) as error:
            failure = str(error) or "something took too long"
            note(f"round {len(took) + 1} is left out: {failure}")
        else:
            measured.append(Round(figures[THIS], figures[that]))
        took.append(time.monotonic() - begun)
        note(f"round {len(took)} took {took[-1]:.0f} s")
    if not measured:
        raise SystemExit(f"no round was measured: {failure}")
    return measured


def note(line: str) -> None:
    """Report progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def report(measured: Sequence[Round], that: Tree) -> None:
    """Print the table of a comparison."""
    print(f"\n{described()}; rounds: {len(measured)}; figures are medians")
    print(f"ratio: this tree / {that.name} in the same round; its median, least and most\n")
    print(*table(measured, that.name), sep="\n", flush=True)


def table(measured: Sequence[Round], that: str) -> list[str]:
    """Lines of text: one for each row and unit, with the median of each tree and the ratios of the rounds."""
    rows: list[tuple[str, ...]] = [("row", "unit", "this tree", that, "ratio", "least-most")]
    names = dict.fromkeys(name for one in measured for figures in one for name in figures)
    for name in names:
        pairs = [(one.this[name], one.that[name]) for one in measured if name in one.this and name in one.that]
        rows.append((*name, *_compared(pairs)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])]).rstrip() for row in rows
    ]


def ratios(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """This tree's figure divided by the other's, for each round. Rounds in which the other's is zero have none."""
    return [this / that for this, that in pairs if that]


def _compared(pairs: Sequence[tuple[float, float]]) -> tuple[str, str, str, str]:
    if not pairs:
        return ("-", "-", "-", "only one tree has it")
    this, that = (shown(median(column)) for column in zip(*pairs, strict=True))
    if not (found := ratios(pairs)):
        return (this, that, "-", "-")
    return (this, that, f"{median(found):.3f}", f"{min(found):.3f}-{max(found):.3f}")


def shown(figure: float) -> str:
    """A figure in four digits or more."""
    if abs(figure) >= 1000 or figure == int(figure):
        return f"{figure:,.0f}"
    return f"{figure:.{max(1, 3 - len(str(int(abs(figure)))))}f}"
