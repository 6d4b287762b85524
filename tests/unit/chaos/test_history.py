"""The journals and the report of the chaos harness, which import nothing of the tracker."""

import ast
from math import inf
from pathlib import Path

import pytest

import chaos
from chaos import history as forms
from chaos.checker import check
from chaos.history import Fault, read
from chaos.journal import ANSWERS, EFFECTS, EVENTS, Journal
from chaos.report import report, story
from tests.support.chaos_histories import killed, ran, run, saw, told
from tracker.runtime import failpoints

MODULES = ("checker", "history", "journal", "kinds", "leases", "report")


def test_the_journals_of_a_run_are_read_as_they_were_written(tmp_path: Path) -> None:
    answers, effects, events = (Journal(tmp_path / name) for name in (ANSWERS, EFFECTS, EVENTS))
    answers.write(what="accepted", id="op", call="call", type="#chaos.slow", may_start=1.1, answered=1.0)
    answers.write(what="cancel", id="op", asked=2.0)
    answers.write(what="delete", id="op", asked=3.0)
    answers.write(what="saw", id="op", answered=1.5, asked=1.4, http=200, status="Running", attempt=1)
    answers.write(what="delete", id="op", asked=3.0, answered=4.0)
    answers.write(what="odd", request="GET /", http=500, text="{}")
    effects.write(event="start", t=1.2, id="op", attempt=1, worker="worker-1", pid=7)
    effects.write(event="start", t=1.3, id="op", attempt=2, worker="worker-2", pid=8)
    effects.write(event="end", t=1.6, id="op", attempt=1, worker="worker-1", pid=7, how="failed")
    events.write(event="start", target="worker-1", pid=6, t=0.1)
    events.write(event="fault", kind="pause worker", target="worker-1", pid=6, t=1.1)
    events.write(event="over", kind="pause worker", since=1.1, t=2.1)
    events.write(event="fault", kind="kill valkey", target="valkey", pid=5, t=5.0)
    events.write(event="fault", kind="mid_commit", target="worker-1", pid=6, t=6.0)
    events.write(event="stopped", t=7.0)
    history = read(tmp_path)
    assert history.operations["op"] == told(
        [saw(1.5, "Running", asked=1.4)],
        [ran(1, 1.2, 1.6, "failed"), ran(2, 1.3, None, worker="worker-2", pid=8)],
        accepted=1.0,
        may_start=1.1,
        cancel_asked=2.0,
        delete_asked=3.0,
        deleted=4.0,
    )
    assert history.faults == [
        Fault("pause worker", "worker-1", 6, 1.1, 2.1),
        Fault("kill valkey", "valkey", 5, 5.0, inf),
        Fault("mid_commit", "worker-1", 6, 6.0, 6.0),
    ]
    assert history.starts == [(0.1, "worker-1")]
    assert history.stopped == 7.0
    assert history.odd == ["500 for GET /: {}"]


def test_a_violation_is_reported_with_the_operations_whole_story() -> None:
    history = run(told([saw(1, "Running"), saw(2, "NotStarted", 1)], [ran(1, 0.9, None)]), faults=[killed(1.5)])
    text = "\n".join(report(history, check(history, within=60.0)))
    assert "VIOLATION of never_goes_back: op" in text
    assert all(line in text for line in story(history, "op"))
    signs = ["accepted", "start: attempt 1 in process 7", "200 Running", "fault: kill worker", "200 NotStarted"]
    places = [text.index(sign) for sign in signs]
    assert places == sorted(places)


@pytest.mark.parametrize("name", MODULES)
def test_who_judges_imports_nothing_of_the_trackers(name: str) -> None:
    tree = ast.parse((Path(chaos.__path__[0]) / f"{name}.py").read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {module for module in modules if module.split(".")[0] in {"tracker", "workers", "redis", "rq"}}
    ours = {module.removeprefix("chaos.") for module in modules if module.startswith("chaos")}
    assert ours <= {*MODULES}


def test_the_harness_has_a_fault_for_every_failpoint() -> None:
    assert forms.FAILPOINTS == failpoints.FAILPOINTS
