"""The checker of the chaos harness finds what must not happen in invented histories, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from chaos.checker import RULES, check
from chaos.history import FAULTS, NOT_LISTED, POISON, Sight
from chaos.leases import TAKEN_OVER
from tests.support.chaos_histories import RESTARTS, broken, done, failed, killed, ran, run, saw, told

NONE: dict[str, Any] = {}


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


def test_overlapping_answers_and_repeated_ones_tell_nothing_wrong() -> None:
    sights = [saw(1, "Running", asked=0.5), saw(1.1, "NotStarted", 0, asked=0.9), done(3, asked=90)]
    assert not broken(run(told(sights, [ran(1, 0.9, 2.9)])))


def test_a_deleted_operation_may_be_gone_while_its_delete_is_answered() -> None:
    sights = [saw(1, "Running"), Sight(5.5, 5.4, NOT_LISTED), saw(5.6, "Running", asked=4.9), Sight(8, 90, 410)]
    assert not broken(run(told(sights, [ran(1, 0.9, 7)], delete_asked=5.0, deleted=6.0)))


def test_a_complete_run_has_every_kind_of_fault_and_a_takeover_in_quiet_times() -> None:
    faults = [killed(1000 + 100 * number, kind, "somebody") for number, kind in enumerate((*FAULTS, POISON))]
    taken_over = told([done(50, 2)], [ran(1, 1, None), ran(2, 12, 49)])
    faults.append(killed(2))
    whole = run(taken_over, faults=faults, starts=RESTARTS)
    assert not broken(whole, complete=True)
    assert broken(replace(whole, faults=faults[1:]), complete=True) == {"complete"}
    of_a_host = [*faults[:-1], killed(2, "kill host", pid=7)]
    assert broken(replace(whole, faults=of_a_host, starts=()), complete=True) == {"complete"}
    assert not broken(replace(whole, faults=faults[1:]))
    assert broken(run(WELL, faults=faults, starts=RESTARTS), complete=True) == {"complete"}
