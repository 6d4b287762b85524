"""Followers of events: how much may wait for a reader that is slow."""

import pytest

from tracker.config import Settings
from tracker.events.feed import BEGINNING, Event, PositionedEvent
from tracker.events.follower import Follower
from tracker.runtime.budgets import Budgets

KIB = 1024


def event() -> list[PositionedEvent]:
    return [PositionedEvent(BEGINNING, Event.read(f'{"a" * 32}\tcall\t[2,"running",1,1700000000000000]'))]


@pytest.fixture
def budgets() -> Budgets:
    return Budgets(Settings(stream_bytes=16 * KIB, streams_bytes=1024 * KIB))


async def test_a_reader_that_leaves_too_many_bytes_is_behind_and_nothing_is_kept_for_it(budgets: Budgets) -> None:
    follower = Follower("test", budgets)
    for _ in range(16):
        follower.offer(event(), KIB)
    assert [follower.behind, budgets.events.held] == [False, 16 * KIB]
    follower.offer(event(), KIB)
    assert follower.behind
    assert budgets.events.held == 0


async def test_bytes_that_are_taken_are_given_back(budgets: Budgets) -> None:
    follower = Follower("test", budgets)
    for _ in range(3):
        follower.offer(event(), KIB)
        assert len(await follower.take(within=0)) == 1
    assert budgets.events.held == 0


async def test_many_slow_readers_keep_no_more_than_the_budget_of_the_process(budgets: Budgets) -> None:
    followers = [Follower("test", budgets) for _ in range(200)]
    for follower in followers:
        for _ in range(10):
            follower.offer(event(), KIB)
    assert budgets.events.held <= 1024 * KIB
    assert sum(follower.behind for follower in followers) >= 200 - 103


async def test_the_slow_readers_of_one_tenant_leave_room_for_another(budgets: Budgets) -> None:
    budgets.tenants.know("flood", "other")
    for _ in range(200):
        fill(Follower("flood", budgets))
    other = Follower("other", budgets)
    fill(other)
    assert not other.behind


def fill(follower: Follower) -> None:
    for _ in range(10):
        follower.offer(event(), KIB)


async def test_a_follower_that_ends_gives_its_bytes_back(budgets: Budgets) -> None:
    follower = Follower("test", budgets)
    fill(follower)
    follower.clear()
    assert budgets.events.held == 0
