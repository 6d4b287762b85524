"""Shares of a resource: who gets units, and who waits."""

import asyncio

import pytest

from tests.support.waiting import LONGEST_WAIT, soon
from tracker.errors import Unavailable
from tracker.runtime.shares import Shares, Tenants


def shares(total: int, per_cent: int = 100, *tenants: str) -> Shares:
    known = Tenants(per_cent)
    known.know(*tenants)
    return Shares(total, known)


async def granted_in_order(resource: Shares, *tenants: str) -> list[str]:
    """The tenants in the order in which they get a unit. Each gives it back at once."""
    order: list[str] = []

    async def ask(tenant: str) -> None:
        if await resource.acquire(tenant, within=LONGEST_WAIT):
            order.append(tenant)
            resource.give_back(tenant)

    asked = []
    for tenant in tenants:
        asked.append(asyncio.create_task(ask(tenant)))
        await asyncio.sleep(0)
    resource.give_back("first")
    await soon(asyncio.gather(*asked))
    return order


async def test_a_tenant_that_is_alone_may_hold_everything() -> None:
    resource = shares(10, 50)
    assert all(resource.take("one") for _ in range(10))
    assert not resource.take("one")


async def test_one_of_several_tenants_leaves_a_part_to_the_others() -> None:
    resource = shares(10, 90, "one", "two")
    assert [resource.take("one") for _ in range(10)] == [True] * 9 + [False]
    assert resource.take("two")
    assert not resource.take("two")


@pytest.mark.parametrize(("total", "per_cent", "left"), [(4, 90, 1), (10, 100, 1), (2, 10, 1), (1, 90, 0)])
async def test_one_of_several_tenants_gets_at_least_one_unit_and_leaves_one_if_there_are_two(
    total: int, per_cent: int, left: int
) -> None:
    known = Tenants(per_cent)
    known.know("one", "two")
    assert total - known.most_of(total) >= left
    assert known.most_of(total) >= 1


async def test_a_resource_of_no_units_has_none_for_anybody() -> None:
    assert not shares(0).take("one")
    assert not shares(0, 90, "one", "two").take("one")


async def test_units_that_are_given_back_go_to_tenants_in_turn() -> None:
    resource = shares(1)
    assert resource.take("first")
    asking = ["flood", "flood", "flood", "flood", "other", "third"]
    assert await granted_in_order(resource, *asking) == ["flood", "other", "third", "flood", "flood", "flood"]
    assert resource.held == 0


async def test_who_waits_too_long_gets_nothing_and_leaves_no_trace() -> None:
    resource = shares(1)
    assert resource.take("one")
    assert not await soon(resource.acquire("two", within=0.0))
    resource.give_back("one")
    assert resource.take("three")


async def test_a_unit_granted_to_a_task_that_is_cancelled_in_the_same_turn_is_not_lost() -> None:
    resource = shares(1)
    assert resource.take("one")
    waiting = asyncio.create_task(resource.acquire("two", within=LONGEST_WAIT))
    await asyncio.sleep(0)
    resource.give_back("one")  # grants the unit to the task, which has not run since
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert resource.held == 0
    assert resource.take("three")


async def test_a_task_that_is_cancelled_while_it_waits_is_passed_over() -> None:
    resource = shares(1)
    assert resource.take("one")
    cancelled, waiting = (asyncio.create_task(resource.acquire(name, within=LONGEST_WAIT)) for name in ("two", "three"))
    await asyncio.sleep(0)
    cancelled.cancel()
    resource.give_back("one")
    assert await soon(waiting)
    assert resource.held_by("two") == 0
    assert resource.held_by("three") == 1


async def test_units_beyond_the_limits_are_counted_and_keep_others_waiting_until_they_are_back() -> None:
    resource = shares(10)
    resource.count("one", 25)
    assert not resource.take("two")
    resource.give_back("one", 25)
    assert resource.take("two", 10)


async def test_a_refusal_says_why_and_when_to_try_again() -> None:
    resource = shares(1)
    with (
        resource.taken("one", "none is free"),
        pytest.raises(Unavailable, match="none is free") as caught,
        resource.taken("one", "none is free", retry_after=7),
    ):
        pass
    assert caught.value.retry_after == 7
    assert resource.held == 0
