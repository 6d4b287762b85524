"""Arithmetic and table of `make bench-workers`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.drain import Drain

COLUMNS = (
    "system",
    "tasks/s",
    "least-most",
    "x Simple",
    "x peer",
    "CPU ms/task",
    "server's",
    "bytes/task",
    "keys/task",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of one system's rounds."""

    rate: float
    slowest: float
    fastest: float
    cpu: float
    server_cpu: float
    stored: float
    keys: float

    @classmethod
    def of(cls, drains: Sequence[Drain]) -> "Figures":
        """Take the medians: tasks per second, processor milliseconds, bytes and keys per task."""
        rates = [drain.rate for drain in drains]
        return cls(
            median(rates),
            min(rates),
            max(rates),
            median(drain.cpu / drain.tasks * 1000 for drain in drains),
            median(drain.server_cpu / drain.tasks * 1000 for drain in drains),
            median(drain.stored for drain in drains),
            median(drain.keys for drain in drains),
        )


def best(figures: Mapping[str, Figures], among: Iterable[str]) -> float | None:
    """The rate of the fastest system in `among`, or None if no system in `among` was measured."""
    return max((figures[name].rate for name in among if name in figures), default=None)


def table(figures: Mapping[str, Figures], *, simple: str, peers: Iterable[str]) -> list[str]:
    """Lines of text: a row per system, with its rate as a multiple of `simple`'s and of the best peer's."""
    reference = figures[simple].rate if simple in figures else None
    fastest = best(figures, peers)
    rows = [COLUMNS]
    for name, one in figures.items():
        spread = f"{one.slowest:,.0f}-{one.fastest:,.0f}"
        ratios = (_ratio(one.rate, reference), _ratio(one.rate, fastest))
        costs = (f"{one.cpu:.2f}", f"{one.server_cpu:.2f}", f"{one.stored:,.0f}", f"{one.keys:.1f}")
        rows.append((name, f"{one.rate:,.0f}", spread, *ratios, *costs))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _ratio(rate: float, reference: float | None) -> str:
    return "-" if reference is None else f"{rate / reference:.2f}"
