"""Slices of work on the event loop."""

import asyncio
from itertools import pairwise

from tests.support.waiting import soon
from tracker.runtime import loop_slices
from tracker.runtime.loop_slices import LoopSlice, LoopTurns


async def test_other_tasks_run_between_the_slices_of_long_work() -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        loop_slice = LoopSlice()
        for number in range(3):
            order.append(f"{name}{number}")
            while not loop_slice.is_over:
                pass
            await loop_slice.rest()

    await soon(asyncio.gather(work("a"), work("b")))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert loop_slices.SLICE_SECONDS < 0.01


async def test_few_of_many_ready_tasks_run_in_one_turn_of_the_loop_and_tenants_take_turns() -> None:
    turns = LoopTurns(at_once=2)
    order: list[str] = []
    others: list[int] = []

    async def work(tenant: str) -> None:
        await turns.turn(tenant)
        order.append(tenant)

    async def other() -> None:
        for _ in range(6):
            others.append(len(order))
            await asyncio.sleep(0)

    await soon(asyncio.gather(*(work("flood") for _ in range(7)), work("other"), other()))
    assert order == ["flood", "flood", "flood", "other", *["flood"] * 4]
    assert all(later - earlier <= 2 for earlier, later in pairwise(others))


async def test_a_task_that_is_cancelled_while_it_waits_for_its_turn_costs_no_turn() -> None:
    turns = LoopTurns(at_once=1)
    await turns.turn("test")
    first, second = (asyncio.create_task(turns.turn("test")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await soon(second)
    await soon(turns.turn("test"))
