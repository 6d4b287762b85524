"""Arithmetic and tables of `make bench-api`."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.api_bare import Row
from benchmarks.api_load import Burst

BESIDE_BARE = (
    *("row", "op/s", "least-most", "beside", "x", "least-most", "x by CPU", "target"),
    *("us server", "us Valkey", "us load", "core of server", "the other"),
)
ENDS = (
    *("system", "the client", "op/s", "least-most", "x best peer", "p50 ms", "p99 ms"),
    *("us in all", "x by CPU", "us API", "us worker", "us Valkey", "us load"),
)
PARTS = ("api", "worker", "valkey", "load")


def beside_bare(rows: Sequence[Row], bursts: Mapping[str, Sequence[Burst]]) -> list[str]:
    """Lines of text: a row each, with its ratios to the row it is compared with, round by round."""
    table: list[tuple[str, ...]] = [BESIDE_BARE]
    for row in rows:
        took = bursts[row.name]
        costs = (f"{median(one.cost(part) for one in took):,.0f}" for part in ("server", "valkey", "load"))
        server = median(one.share("server") for one in took)
        other = median(one.share("valkey") + one.share("load") for one in took)
        compared = _compared(row, took, bursts.get(row.beside, ()))
        table.append((row.name, *_rates(took), *compared, *costs, f"{server:.0%}", f"{other:.0%}"))
    return aligned(table, words=1)


def ratios(took: Sequence[Burst], others: Sequence[Burst]) -> tuple[list[float], list[float]]:
    """The ratios of each round: of the rates, and of the operations per second of the server's processor time."""
    pairs = list(zip(took, others, strict=True))
    rates = [one.rate / other.rate for one, other in pairs]
    return rates, [other.cost("server") / one.cost("server") for one, other in pairs]


def ends(bursts: Mapping[tuple[str, str], Sequence[Burst]], ours: str) -> list[str]:
    """Lines of text: a row per system and way of waiting, as multiples of the fastest and of the cheapest peer."""
    peers = [took for (name, _), took in bursts.items() if name != ours]
    fastest = max((median(one.rate for one in took) for took in peers), default=None)
    cheapest = min((median(map(cost, took)) for took in peers), default=None)
    table: list[tuple[str, ...]] = [ENDS]
    for (name, way), took in bursts.items():
        rate, whole = median(one.rate for one in took), median(map(cost, took))
        times = sorted(time * 1000 for one in took for time in one.times)
        table.append(
            (
                *(name, way, *_rates(took), "-" if fastest is None else f"{rate / fastest:.2f}"),
                *(f"{median(times):.1f}", f"{times[int(len(times) * 0.99)]:.1f}", f"{whole:,.0f}"),
                "-" if cheapest is None else f"{cheapest / whole:.2f}",
                *(f"{median(one.cost(part) for one in took):,.0f}" for part in PARTS),
            )
        )
    return aligned(table, words=2)


def cost(burst: Burst) -> float:
    """Processor microseconds per operation, of the load and all servers."""
    return sum(map(burst.cost, PARTS))


def _rates(took: Sequence[Burst]) -> tuple[str, str]:
    rates = [one.rate for one in took]
    return f"{median(rates):,.0f}", f"{min(rates):,.0f}-{max(rates):,.0f}"


def _compared(row: Row, took: Sequence[Burst], others: Sequence[Burst]) -> tuple[str, ...]:
    if not row.beside:
        return ("",) * 5
    rates, costs = ratios(took, others)
    spread = f"{min(rates):.2f}-{max(rates):.2f}"
    return row.beside, f"{median(rates):.2f}", spread, f"{median(costs):.2f}", f"{row.target:.1f}"


def aligned(table: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """The lines of the table. The first `words` columns are words, and the other columns are numbers."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join([*map(str.ljust, row[:words], widths[:words]), *map(str.rjust, row[words:], widths[words:])])
        for row in table
    ]
