"""Which event loops count as blocked."""

import time
from typing import Any

import pytest

from workers.host import Host
from workers.loop_turns import LEAST_LIMIT, LONGEST_STEP, NO_SLOT, LoopWatch, TurnBoard

LIMIT = 5.0


class Clock:
    """The clock of a system, on which a test decides how time passes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


class SlotOnly(Host):
    """A host of which only the slot counts."""

    def __init__(self, slot: int) -> None:
        self.slot = slot


def look(watch: LoopWatch, clock: Clock, hosts: list[Any], seconds: float, step: float = 0.1) -> list[tuple[Any, int]]:
    """Let time pass, and look as often as a manager does. Returns the blocked hosts at the end."""
    found: list[tuple[Any, int]] = []
    for _ in range(round(seconds / step)):
        clock.now += step
        found = watch.blocked(hosts)
    return found


def test_a_loop_that_does_not_turn_for_longer_than_the_limit_is_blocked_and_its_blocker_is_known(clock: Clock) -> None:
    board = TurnBoard()
    blocked, turning = SlotOnly(board.take_slot()), SlotOnly(board.take_slot())
    watch = LoopWatch(board, LIMIT)
    board.note(blocked.slot, 7)
    found: list[tuple[Any, int]] = []
    for _ in range(60):
        board.note(turning.slot)
        found = look(watch, clock, [blocked, turning], 0.1)
    assert found == [(blocked, 7)]
    board.note(blocked.slot)
    assert look(watch, clock, [blocked], 1) == []


def test_time_in_which_the_manager_did_not_run_does_not_count(clock: Clock) -> None:
    board = TurnBoard()
    host = SlotOnly(board.take_slot())
    watch = LoopWatch(board, LIMIT)
    look(watch, clock, [host], 0.2)
    clock.now += 3600
    assert watch.blocked([host]) == []
    assert look(watch, clock, [host], LIMIT - LONGEST_STEP - 0.5) == []
    assert look(watch, clock, [host], 1) == [(host, 0)]


@pytest.mark.parametrize(("limit", "seconds", "blocked"), [(0.0, 3600.0, False), (0.01, 0.9, False), (0.01, 1.3, True)])
def test_no_limit_means_never_and_a_small_one_counts_as_the_least(
    clock: Clock, limit: float, seconds: float, blocked: bool
) -> None:
    board = TurnBoard()
    host = SlotOnly(board.take_slot())
    watch = LoopWatch(board, limit)
    assert LEAST_LIMIT == 1.0
    assert bool(look(watch, clock, [host], seconds)) == blocked


def test_a_host_without_a_slot_is_not_watched_and_slots_are_used_again(clock: Clock) -> None:
    board = TurnBoard()
    slots: list[int] = []
    while (slot := board.take_slot()) != NO_SLOT:
        slots.append(slot)
    assert len(set(slots)) == len(slots)
    board.note(NO_SLOT)
    board.free_slot(NO_SLOT)
    assert look(LoopWatch(board, LIMIT), clock, [SlotOnly(NO_SLOT)], 10) == []
    board.free_slot(slots[0])
    assert board.take_slot() == slots[0]
