"""The chaos harness's checker: what must not happen is found, in made-up histories, and what may happen is not."""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

import chaos
from chaos import history as forms
from chaos.checker import RULES, check
from chaos.history import FAULTS, NOT_LISTED, Attempt, Fault, History, Sight, Told, read
from chaos.journal import ANSWERS, EFFECTS, EVENTS, Journal
from chaos.kinds import KINDS
from chaos.leases import HOLDS, LOCK, MERCY, TAKEN_OVER, live_until
from chaos.report import report, story
from tracker import steps

MODULES = ("checker", "history", "journal", "kinds", "leases", "report")
NONE: dict[str, Any] = {}


def saw(at: float, status: str, attempt: int = 1, **more: Any) -> Sight:
    """Seen so once, from asking a moment before `at`."""
    return Sight(**{"answered": at, "asked": at - 0.01, "http": 200, "status": status, "attempt": attempt, **more})


def done(at: float, attempt: int = 1, **more: Any) -> Sight:
    return saw(at, "Completed", attempt, **{"code": 200, "message": f"attempt {attempt}", "ended": "then", **more})


def failed(at: float, code: int, attempt: int = 1, subcode: int = 1) -> Sight:
    return saw(at, "Failed", attempt, code=code, subcode=subcode, ended="then")


def ran(number: int, start: float, end: float | None, how: str = "succeeded", **more: Any) -> Attempt:
    about = {"operation": "op", "worker": "worker-1", "pid": 7, **more}
    return Attempt(number=number, start=start, end=end, how=how if end is not None else "", **about)


def killed(at: float, kind: str = "kill worker", target: str = "worker-1", pid: int = 1, lasts: float = 0.0) -> Fault:
    return Fault(kind, target, pid, at, at + lasts)


def told(
    sights: Iterable[Sight] = (), attempts: Iterable[Attempt] = (), *, kind: str = "#chaos.slow", **more: Any
) -> Told:
    return Told(
        **{"id": "op", "type": kind, "call": "call", "accepted": 0.0, **more}, sights=[*sights], attempts=[*attempts]
    )


def run(*operations: Told, faults: Sequence[Fault] = (), **more: Any) -> History:
    return History({each.id: each for each in operations}, faults, **{"stopped": 100.0, **more})


def broken(history: History, **more: Any) -> set[str]:
    return {violation.rule for violation in check(history, **{"within": 60.0, **more})}


WELL = told([saw(0.5, "NotStarted", 0), saw(1, "Running"), done(3)], [ran(1, 0.9, 2.9)])


def test_a_run_in_which_all_went_well_breaks_no_rule() -> None:
    assert not check(run(WELL), within=60.0)


BROKEN = {
    "never seen to have ended": ("ends", told([saw(1, "Running")], [ran(1, 0.9, None)]), NONE),
    "ended too late": ("ends", told([done(200)], [ran(1, 0.9, 2.9)]), NONE),
    "an end that changed its status": (
        "never_changes",
        told([done(3), failed(4, 499)], [ran(1, 0.9, 2.9)], cancel_asked=1.0),
        NONE,
    ),
    "an end that changed its attempt": (
        "never_changes",
        told([done(3), done(4, 2, message="attempt 1")], [ran(1, 0.9, 2.9)]),
        NONE,
    ),
    "an end that changed its time": (
        "never_changes",
        told([done(3), done(4, ended="later")], [ran(1, 0.9, 2.9)]),
        NONE,
    ),
    "back from running": (
        "never_goes_back",
        told([saw(1, "Running"), saw(2, "NotStarted", 1), done(3)], [ran(1, 0.9, 2.9)]),
        NONE,
    ),
    "back from its end": ("never_goes_back", told([done(3), saw(4, "Running")], [ran(1, 0.9, 2.9)]), NONE),
    "back to an earlier attempt": (
        "never_goes_back",
        told([saw(1, "Running", 2), saw(2, "Running", 1), done(3, 2)], [ran(2, 0.9, 2.9)]),
        NONE,
    ),
    "unknown to somebody": ("stays", told([Sight(2, 2, 404), done(3)], [ran(1, 0.9, 2.9)]), NONE),
    "not in the list": ("stays", told([Sight(2, 2, NOT_LISTED), done(3)], [ran(1, 0.9, 2.9)]), NONE),
    "gone without a delete": ("stays", told([done(3), Sight(4, 4, 410)], [ran(1, 0.9, 2.9)]), NONE),
    "gone before its delete": ("stays", told([Sight(4, 4, 410)], delete_asked=5.0, deleted=6.0), NONE),
    "there after its delete": ("stays", told([done(7)], [ran(1, 0.9, 2.9)], delete_asked=5.0, deleted=6.0), NONE),
    "unknown after its delete": ("stays", told([Sight(7, 7, 404)], delete_asked=5.0, deleted=6.0), NONE),
    "the outcome of an older attempt": (
        "fenced",
        told([done(5, 2, message="attempt 1")], [ran(1, 0.9, 4.9), ran(2, 2, 4.8)]),
        NONE,
    ),
    "an attempt after the last": ("fenced", told([done(3)], [ran(1, 0.9, 2.9), ran(2, 2, 4.9)]), NONE),
    "completed without a handler": ("fenced", told([done(3)]), NONE),
    "completed though the handler failed": ("fenced", told([done(3)], [ran(1, 0.9, 2.9, "failed")]), NONE),
    "canceled while it waited, and started": (
        "fenced",
        told([failed(1, 499, 0, 0)], [ran(1, 2, 3)], cancel_asked=0.5),
        NONE,
    ),
    "failed by a handler that does not": ("as_expected", told([failed(3, 500)], [ran(1, 0.9, 2.9)]), NONE),
    "canceled by nobody": ("as_expected", told([failed(3, 499)], [ran(1, 0.9, 2.9, "stopped")]), NONE),
    "canceled before anybody asked": (
        "as_expected",
        told([failed(3, 499)], [ran(1, 0.9, 2.9, "stopped")], cancel_asked=3.5),
        NONE,
    ),
    "never taken": ("as_expected", told([failed(3, 503, 20, 2)]), NONE),
    "lost too early": ("as_expected", told([failed(3, 503)], [ran(1, 0.9, None)]), NONE),
    "failed too early": (
        "as_expected",
        told([failed(3, 500, 2)], [ran(1, 1, 1.1, "failed"), ran(2, 2, 2.1, "failed")], kind="#chaos.failing"),
        NONE,
    ),
    "failed too often": (
        "charged",
        told(
            [failed(9, 500, 4)],
            [ran(number, number, number + 0.1, "failed") for number in range(1, 5)],
            kind="#chaos.failing",
        ),
        NONE,
    ),
    "begun before its delay was over": ("waits", told([done(3)], [ran(1, 0.9, 2.9)], may_start=1.0), NONE),
    "two attempts of a serial operation at once": (
        "never_crowded",
        told([done(9, 2)], [ran(1, 1, 8), ran(2, 2, 8.5)], kind="#chaos.serial"),
        NONE,
    ),
    "run again too late": (
        "is_taken_over",
        told([done(29, 2)], [ran(1, 1, None), ran(2, 2.1 + TAKEN_OVER, 28)]),
        {"faults": [killed(2)], "starts": [(0, "worker-1"), (3, "worker-1")]},
    ),
    "run again too late after its host died": (
        "is_taken_over",
        told([done(29, 2)], [ran(1, 1, None), ran(2, 2.1 + TAKEN_OVER, 28)]),
        {"faults": [killed(2, "kill host", pid=7)]},
    ),
    "a process that ended by itself": ("lives", WELL, {"starts": [(0, "api-1"), (5, "api-1")]}),
    "a process that ended of a pause": (
        "lives",
        WELL,
        {"starts": [(0, "api-1"), (5, "api-1")], "faults": [killed(2, "pause worker", "api-1")]},
    ),
    "a process that ended when another was killed": (
        "lives",
        WELL,
        {"starts": [(0, "api-1"), (5, "api-1")], "faults": [killed(2, "kill api", "api-2")]},
    ),
    "an answer that is a defect": ("answers_well", WELL, {"odd": ["500 for GET /"]}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_must_not_happen_breaks_its_rule_and_no_other(name: str) -> None:
    rule, operation, more = BROKEN[name]
    assert broken(run(operation, **more)) == {rule}


def test_every_rule_is_broken_by_some_history() -> None:
    assert {rule for rule, *_ in BROKEN.values()} == {"ends", *(rule.__name__ for rule in RULES)}


def serial(name: str, start: float, end: float | None, call: str = "call", kind: str = "#chaos.serial") -> Told:
    return told([done(50)], [ran(1, start, end, operation=name)], kind=kind, id=name, call=call)


def test_serial_operations_of_one_call_must_not_overlap() -> None:
    assert broken(run(serial("a", 1, 5), serial("b", 4, 6))) == {"never_crowded"}
    assert not broken(run(serial("a", 1, 4), serial("b", 4, 6)))
    assert not broken(run(serial("a", 1, 5), serial("b", 4, 6, call="another")))


def test_a_cap_holds_over_all_calls() -> None:
    cap = KINDS["#chaos.capped"].cap
    many = [serial(f"{number}", number, 10, f"call-{number}", "#chaos.capped") for number in range(cap + 1)]
    assert broken(run(*many)) == {"never_crowded"}
    assert not broken(run(*many[:cap]))


@pytest.mark.parametrize(
    ("fault", "until"),
    [
        (killed(3), 3),
        (killed(3, "mid_commit"), 3),
        (killed(3, "kill nursery"), 3),
        (killed(3, "kill host", pid=7), 3),
        (killed(3, "kill host", pid=8), 20),
        (killed(3, target="worker-2"), 20),
        (killed(3, "kill api", "api-1"), 20),
        (killed(3, "drop normal", ""), 20),
        (killed(3, "pause worker", lasts=15), 3 + HOLDS),
        (killed(3, "pause worker", "worker-2", lasts=15), 20),
        (killed(3, "pause valkey", "valkey", lasts=30), 3 + HOLDS),
        (killed(0, "pause valkey", "valkey", lasts=30), HOLDS),
        (killed(0, "kill valkey", "valkey", lasts=0.5), 20),
        (killed(25), 20),
    ],
)
def test_an_attempt_surely_lives_until_its_process_or_its_lease_may_be_gone(fault: Fault, until: float) -> None:
    assert live_until(ran(1, 1, 20), [fault]) == until


def test_a_zombie_beside_the_next_attempt_is_no_violation_once_its_lease_may_be_gone() -> None:
    pause = killed(2, "pause worker", lasts=15)
    for began, rules in ((2 + HOLDS, set[str]()), (1.9 + HOLDS, {"never_crowded"})):
        attempts = [ran(1, 1, 30, "stopped"), ran(2, began, 28, worker="worker-2")]
        assert broken(run(told([done(29, 2)], attempts, kind="#chaos.serial"), faults=[pause])) == rules


RESTARTS = [(0.0, "worker-1"), (3.0, "worker-1")]


@pytest.mark.parametrize(
    ("after", "others", "rules"),
    [
        (TAKEN_OVER, [], set()),
        (TAKEN_OVER + LOCK, [killed(8, target="worker-2")], set()),
        (TAKEN_OVER + LOCK + 0.1, [killed(8, target="worker-2")], {"is_taken_over"}),
        (TAKEN_OVER + MERCY, [killed(1, "drop normal", "")], set()),
        (TAKEN_OVER + MERCY + 0.1, [killed(1, "drop normal", "")], {"is_taken_over"}),
        (TAKEN_OVER + 0.1, [killed(19, target="worker-2")], {"is_taken_over"}),
        (40, [killed(8, "pause valkey", "valkey", lasts=9)], set()),
        (40, [killed(2.1 - MERCY, "kill valkey", "valkey")], set()),
    ],
)
def test_a_takeover_has_15_seconds_and_more_only_when_something_stood_in_its_way(
    after: float, others: list[Fault], rules: set[str]
) -> None:
    operation = told([done(50, 2)], [ran(1, 1, None), ran(2, 2 + after, 49)])
    assert broken(run(operation, faults=[killed(2), *others], starts=RESTARTS)) == rules


def test_what_cannot_be_blamed_on_the_worker_is_no_takeover() -> None:
    late = 3 + TAKEN_OVER
    for operation in (
        told([failed(50, 503, 20)], [ran(20, 1, None)]),  # no attempts left
        told([saw(1.5, "Running"), done(1.9)], [ran(1, 1, 1.8)]),  # over before
        told([done(50, 2)], [ran(1, 1, None), ran(2, late, 49)], kind="#chaos.function"),  # may wait for a process
        told([saw(9, "Running", 2), done(50, 3)], [ran(1, 1, None), ran(3, late, 49)]),  # seen to run again
    ):
        assert not broken(run(operation, faults=[killed(2)], starts=RESTARTS))


def test_a_failure_that_may_have_been_handed_back_is_not_counted() -> None:
    attempts = [ran(number, number * 10, number * 10 + 1, "failed") for number in range(1, 5)]
    operation = told([failed(60, 500, 4)], attempts, kind="#chaos.failing")
    nursery, host = killed(32, "kill nursery"), killed(32, "kill host", pid=8)
    starts = [(0, "worker-1"), (33, "worker-1")]
    pause = killed(31.5, "pause worker", lasts=15)
    assert broken(run(operation)) == {"charged"}
    assert broken(run(operation, faults=[host])) == {"charged"}
    assert not broken(run(operation, faults=[nursery], starts=starts))
    late = replace(nursery, at=48.0, over=48.0)
    assert broken(run(operation, faults=[late], starts=[(0, "worker-1"), (49, "worker-1")])) == {"charged"}
    assert not broken(run(operation, faults=[pause, late], starts=[(0, "worker-1"), (49, "worker-1")]))


def test_overlapping_answers_and_repeated_ones_tell_nothing_wrong() -> None:
    sights = [saw(1, "Running", asked=0.5), saw(1.1, "NotStarted", 0, asked=0.9), done(3, asked=90)]
    assert not broken(run(told(sights, [ran(1, 0.9, 2.9)])))


def test_a_deleted_operation_may_be_gone_while_its_delete_is_answered() -> None:
    sights = [saw(1, "Running"), Sight(5.5, 5.4, NOT_LISTED), saw(5.6, "Running", asked=4.9), Sight(8, 90, 410)]
    assert not broken(run(told(sights, [ran(1, 0.9, 7)], delete_asked=5.0, deleted=6.0)))


def test_a_complete_run_has_every_kind_of_fault_and_a_takeover_in_quiet_times() -> None:
    faults = [killed(1000 + 100 * number, kind, "somebody") for number, kind in enumerate(FAULTS)]
    taken_over = told([done(50, 2)], [ran(1, 1, None), ran(2, 12, 49)])
    faults.append(killed(2))
    whole = run(taken_over, faults=faults, starts=RESTARTS)
    assert not broken(whole, complete=True)
    assert broken(replace(whole, faults=faults[1:]), complete=True) == {"complete"}
    of_a_host = [*faults[:-1], killed(2, "kill host", pid=7)]
    assert broken(replace(whole, faults=of_a_host, starts=()), complete=True) == {"complete"}
    assert not broken(replace(whole, faults=faults[1:]))
    assert broken(run(WELL, faults=faults, starts=RESTARTS), complete=True) == {"complete"}


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


def test_the_steps_of_both_sides_are_the_same() -> None:
    assert forms.STEPS == steps.STEPS
