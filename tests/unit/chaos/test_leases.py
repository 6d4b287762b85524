"""The checker of the chaos harness on attempts whose workers were killed or stopped."""

from dataclasses import replace

import pytest

from chaos.history import Fault, Told
from chaos.kinds import KINDS
from chaos.leases import DYING, HOLDS, LOCK, MERCY, TAKEN_OVER, live_until
from tests.support.chaos_histories import RESTARTS, broken, done, failed, killed, ran, run, saw, told


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
        (killed(3, "kill fork_server"), 3),
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


def test_a_host_may_begin_an_attempt_in_the_moment_in_which_its_killed_manager_takes_it_along() -> None:
    assert live_until(ran(1, 2 + DYING / 2, None), [killed(2)]) == 2 + DYING / 2
    assert live_until(ran(1, 2 + DYING * 2, 20), [killed(2)]) == 20, "that is the worker that came after it"


def test_a_zombie_beside_the_next_attempt_is_no_violation_once_its_lease_may_be_gone() -> None:
    pause = killed(2, "pause worker", lasts=15)
    for began, rules in ((2 + HOLDS, set[str]()), (1.9 + HOLDS, {"never_crowded"})):
        attempts = [ran(1, 1, 30, "stopped"), ran(2, began, 28, worker="worker-2")]
        assert broken(run(told([done(29, 2)], attempts, kind="#chaos.serial"), faults=[pause])) == rules


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
        (TAKEN_OVER + LOCK, [killed(1, "pause worker", "worker-2", lasts=15)], set()),
        (TAKEN_OVER + LOCK + 0.1, [killed(1, "pause worker", "worker-2", lasts=15)], {"is_taken_over"}),
        (TAKEN_OVER + 0.1, [killed(0.5, "pause worker", "worker-2", lasts=1)], {"is_taken_over"}),
        (40, [killed(8, target="worker-2"), killed(2 + TAKEN_OVER + 1, "pause valkey", "valkey", lasts=9)], set()),
        (40, [killed(2 + TAKEN_OVER + 1, "pause valkey", "valkey", lasts=9)], {"is_taken_over"}),
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
    fork_server, host = killed(32, "kill fork_server"), killed(32, "kill host", pid=8)
    starts = [(0, "worker-1"), (33, "worker-1")]
    pause = killed(31.5, "pause worker", lasts=15)
    assert broken(run(operation)) == {"charged"}
    assert broken(run(operation, faults=[host])) == {"charged"}
    assert not broken(run(operation, faults=[fork_server], starts=starts))
    late = replace(fork_server, at=48.0, over=48.0)
    assert broken(run(operation, faults=[late], starts=[(0, "worker-1"), (49, "worker-1")])) == {"charged"}
    assert not broken(run(operation, faults=[pause, late], starts=[(0, "worker-1"), (49, "worker-1")]))
