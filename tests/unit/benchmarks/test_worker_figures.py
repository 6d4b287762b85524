"""The worker benchmark: its tables follow from its measurements."""

import pytest

from benchmarks.drain import Drain
from benchmarks.figures import COLUMNS, Figures, best, table
from benchmarks.memory import kind_of
from tracker.store.keys import Keys


def drained(rate: float) -> Drain:
    return Drain(tasks=1000, seconds=1000 / rate, cpu=0.5, server_cpu=0.25, stored=300.0, keys=1.0)


def test_a_system_is_judged_by_the_median_of_its_rounds() -> None:
    figures = Figures.of([drained(100), drained(400), drained(200)])
    assert (figures.rate, figures.slowest, figures.fastest) == pytest.approx((200, 100, 400))
    assert (figures.cpu, figures.server_cpu) == pytest.approx((0.5, 0.25)), "milliseconds per task"
    assert (figures.stored, figures.keys) == pytest.approx((300, 1))


def test_the_best_peer_is_the_fastest_of_those_measured() -> None:
    figures = {name: Figures.of([drained(rate)]) for name, rate in {"ours": 900, "slow": 10, "fast": 20}.items()}
    assert best(figures, ["slow", "fast", "absent"]) == pytest.approx(20)
    assert best(figures, ["absent"]) is None


def test_rates_are_shown_as_multiples_of_the_reference_and_of_the_best_peer() -> None:
    figures = {name: Figures.of([drained(rate)]) for name, rate in {"ours": 3000, "simple": 200, "fast": 1000}.items()}
    heading, *rows = table(figures, simple="simple", peers=["simple", "fast"])
    assert [heading.find(column) for column in COLUMNS] == sorted(heading.find(column) for column in COLUMNS)
    assert [row.split() for row in rows] == [
        ["ours", "3,000", "3,000-3,000", "15.00", "3.00", "0.50", "0.25", "300", "1.0"],
        ["simple", "200", "200-200", "1.00", "0.20", "0.50", "0.25", "300", "1.0"],
        ["fast", "1,000", "1,000-1,000", "5.00", "1.00", "0.50", "0.25", "300", "1.0"],
    ]


def test_without_its_reference_a_ratio_is_left_out() -> None:
    _, row = table({"ours": Figures.of([drained(3000)])}, simple="simple", peers=[])
    assert row.split()[3:5] == ["-", "-"]


def test_every_key_of_a_record_has_its_kind() -> None:
    keys = Keys()
    assert kind_of(keys.operation("0" * 32)) == "record"
    assert {kind_of(key) for key in (keys.ids("t"), keys.call("t", "c"), keys.expiries)} == {"indexes"}
    assert kind_of(keys.history("0" * 32)).startswith("attempt history")
    assert (kind_of(keys.job("x")), kind_of(keys.tickets), kind_of("celery")) == ("RQ's", "other", "other")
