"""The comparison of two trees: its ratios, its rounds, its checkouts, and the counts of callgrind."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import api, lists, memory, waits, workers
from benchmarks import instructions as instructions_benchmark
from benchmarks.callgrind import instructions
from benchmarks.held_requests import transition_time
from benchmarks.ratios import (
    NotMeasured,
    Pair,
    Rounds,
    Turns,
    compare,
    in_turn,
    interval,
    no_figures,
    ratios,
    shown,
    table,
)
from benchmarks.trees import MINUTES, THIS, Tree, checked_out
from tests.support.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[3]
THAT = Tree("that", ROOT, THIS.python)


def pairs_of(*pairs: tuple[float, float]) -> list[Pair]:
    return [Pair({("create", "op/s"): this}, {("create", "op/s"): that}) for this, that in pairs]


def test_the_ratio_of_a_row_is_the_median_of_the_ratios_of_its_pairs() -> None:
    _, line = table(pairs_of((100, 200), (300, 100), (90, 100)), "308723b")
    assert line.split() == ["create", "op/s", "100", "100", "0.900", "-", "0.500-3.000", "3"]


def test_a_pair_whose_other_figure_is_zero_has_no_ratio() -> None:
    assert ratios([(5, 0), (1, 2)]) == [0.5]
    _, line = table(pairs_of((5, 0)), "308723b")
    assert line.split() == ["create", "op/s", "5", "0", "-", "-", "-", "0"]


def test_a_row_that_one_tree_lacks_is_named_and_not_compared() -> None:
    _, line = table([Pair({("new row", "op/s"): 5}, {})], "308723b")
    assert line.startswith("new row")
    assert "only one tree has it" in line


@pytest.mark.parametrize(("count", "inside"), [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (100, (40, 61))])
def test_the_interval_of_a_median_is_the_one_that_tables_of_order_statistics_give(
    count: int, inside: tuple[int, int] | None
) -> None:
    assert interval([float(value) for value in range(count, 0, -1)]) == inside


def test_turns_are_in_the_order_given_and_its_reverse() -> None:
    assert [in_turn((THIS, THAT), number)[0].name for number in range(3)] == [THIS.name, "that", THIS.name]


@pytest.mark.parametrize(
    ("figure", "text"), [(1234567, "1,234,567"), (123.456, "123.5"), (12.345, "12.3"), (1.2345, "1.23"), (0, "0")]
)
def test_figures_are_shown_in_a_few_digits(figure: float, text: str) -> None:
    assert shown(figure) == text


def test_the_first_round_always_runs() -> None:
    assert Rounds(most=1, minutes=0).another([])


def test_no_more_rounds_run_than_were_asked_for() -> None:
    assert Rounds(most=3, minutes=60).another([1, 1])
    assert not Rounds(most=3, minutes=60).another([1, 1, 1])


def test_no_round_begins_that_would_end_too_late_if_it_were_as_long_as_the_longest() -> None:
    assert Rounds(most=9, minutes=2).another([30, 45])
    assert not Rounds(most=9, minutes=2).another([30, 46])


async def test_the_tree_that_is_measured_first_changes_with_each_round() -> None:
    orders: list[list[str]] = []

    async def one_round(order: Sequence[Tree]) -> Turns:
        orders.append([tree.name for tree in order])
        return [{tree: {("row", "op/s"): float(tree is THIS)} for tree in order}]

    measured = await compare(THAT, Rounds(3, 1), one_round)
    assert orders == [[THIS.name, "that"], ["that", THIS.name], [THIS.name, "that"]]
    assert measured == [Pair({("row", "op/s"): 1.0}, {("row", "op/s"): 0.0})] * 3


@pytest.mark.parametrize("error", [NotMeasured("no answer"), TimeoutError()])
async def test_a_round_that_fails_is_left_out(error: Exception) -> None:
    failures = [None, error]

    async def one_round(order: Sequence[Tree]) -> Turns:
        if failure := failures.pop():
            raise failure
        return no_figures(order, 1)

    assert await compare(THAT, Rounds(2, 1), one_round) == [Pair({}, {})]


async def test_a_comparison_without_a_round_exits_with_what_went_wrong() -> None:
    async def one_round(_: Sequence[Tree]) -> Turns:
        raise NotMeasured("no answer")

    with pytest.raises(SystemExit, match="no answer"):
        await compare(THAT, Rounds(2, 1), one_round)


@pytest.mark.parametrize("name", ["summary", "totals"])
def test_the_total_of_a_callgrind_file_is_that_of_instructions(name: str) -> None:
    text = f"""# callgrind format
version: 1
creator: callgrind-3.19.0
desc: Trigger: --dump-before=echoCommand
positions: line
events: Dr Ir
{name}: 7 75468645

ob=(1) /usr/bin/valkey-server
fn=(12) call
16 400
"""
    assert instructions(text.splitlines()) == 75468645


def test_a_callgrind_file_without_a_total_is_refused() -> None:
    with pytest.raises(ValueError, match="no total"):
        instructions(["events: Ir", "fn=(1) call", "16 400"])


def test_the_time_of_a_transition_is_read_from_its_message() -> None:
    assert transition_time('00ff\tcall\t[3,"completed",1,1790000000123456,{"k":"#a.b\\tc"}]') == 1790000000123456


def test_kinds_of_keys_that_take_nothing_are_left_out_of_a_comparison() -> None:
    stored = memory.Stored(1000.0, {"record": 600.0, "RQ's": 0.3, "the server's tables": 120.0})
    rows = {row.strip() for row, _ in memory.figures([], [], stored)}
    assert {"finished operation", "record"} <= rows
    assert not {"RQ's", "the server's tables"} & rows


@pytest.mark.parametrize("target", ["workers", "api", "waits", "memory", "lists", "instructions"])
def test_a_comparison_is_started_without_the_environments_of_the_peers(target: str) -> None:
    command = ["make", "--dry-run", f"bench-{target}", "AGAINST=abc", "ARGS=--quick"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_WAIT, check=True).stdout
    assert f"-m benchmarks.{target} --against abc --quick" in shown
    assert ".venv-bench" not in shown


INSTALLS = """install:
\t@mkdir -p .venv/bin && echo once >> installed && touch .venv/bin/python
\t@test -x $(PYTHON)
"""


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    return subprocess.run(
        ["git", *who, *words], cwd=root, capture_output=True, text=True, timeout=LONGEST_WAIT, check=True
    ).stdout.strip()


def test_a_commit_is_checked_out_once_and_installed_by_its_own_makefile(tmp_path: Path) -> None:
    root, checkouts = tmp_path / "project", tmp_path / "project" / ".against"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "Makefile").write_text(INSTALLS)
    git(root, "add", "Makefile")
    git(root, "commit", "--quiet", "--message", "first")
    sha = git(root, "rev-parse", "HEAD")
    (root / "Makefile").write_text("install:\n\tfalse\n")
    git(root, "commit", "--quiet", "--all", "--message", "second")

    first, again = (checked_out("HEAD~1", root=root, checkouts=checkouts) for _ in range(2))
    assert first == again == Tree(sha[:7], checkouts / sha[:12], checkouts / sha[:12] / ".venv" / "bin" / "python")
    assert (first.root / "installed").read_text() == "once\nonce\n", "make decides whether anything is to do"
    assert first.python.exists()
    with pytest.raises(SystemExit, match="make install"):
        checked_out("HEAD", root=root, checkouts=checkouts)
    with pytest.raises(SystemExit, match="'nonsense' is no commit"):
        checked_out("nonsense", root=root, checkouts=checkouts)


@pytest.mark.parametrize("benchmark", [api, instructions_benchmark, lists, memory, waits, workers])
def test_every_benchmark_that_compares_says_so_in_its_help(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [benchmark.__name__, "--help"])
    with pytest.raises(SystemExit):
        benchmark.parse()
    words = set(capsys.readouterr().out.replace("[", " ").replace("]", " ").split())
    assert {"--against", "--minutes", "--quick", "--rounds"} <= words


@pytest.mark.parametrize("benchmark", [api, instructions_benchmark, lists, memory, waits, workers])
def test_options_that_are_given_replace_the_defaults_of_the_short_form(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [benchmark.__name__, "--quick", "--against", "abc", "--rounds", "7"])
    options = benchmark.parse()
    assert (options.against, options.rounds, options.minutes) == ("abc", 7, MINUTES)
    assert {name for name, value in vars(options).items() if value is None} <= {"part", "bare"}
