"""The concurrency limit of a type, over all workers."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import KINDS, chance, create, done, ids, now, pop, stages, take
from tracker.domain import lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import VANISHED_AFTER, Store

NOT_CAPPED = {name: kind for name, kind in KINDS.items() if name != "test.capped"}
ENDINGS: dict[str, Callable[[Record], Change]] = {
    "succeeds": lambda record: lifecycle.succeed(record, DONE, {}),
    "rejects": lambda record: lifecycle.reject(record, DONE, {}),
    "cancels": lifecycle.cancel,
}


async def capped(store: Store, count: int, cap: int = 2, **options: Any) -> list[Record]:
    return [await create(store, "capped", concurrency=cap, **options) for _ in range(count)]


async def test_never_more_than_the_cap_run_over_all_workers_and_the_oldest_is_next(store: Store) -> None:
    made = await capped(store, 6)
    first, second = await take(store, "w1")
    assert await take(store, "w2") == []
    assert await pop(store) is None, "what may not start has no ticket"
    order = ids([first, second])
    running = [first, second]
    while running:
        await done(store, running.pop(0))
        await assert_consistent(store)
        got = await take(store, "w3")
        assert len(got) <= 1
        running += got
        order += ids(got)
    assert order == ids(made)


@pytest.mark.parametrize("ending", [*ENDINGS, "hands back", "retries"])
async def test_every_end_of_an_attempt_frees_its_slot(store: Store, ending: str) -> None:
    first, second = await capped(store, 2, cap=1)
    [running] = await take(store)
    again: dict[str, Callable[[Record], Change]] = {
        "hands back": lifecycle.hand_back,
        "retries": lambda record: lifecycle.fail(record, DONE, {}, after=60.0),
    }
    await store.apply({**ENDINGS, **again}[ending](running))
    await assert_consistent(store)
    assert ids(await take(store)) == [second.id]
    assert (await now(store, first)).stage is not Stage.RUNNING
    await assert_consistent(store)


async def test_a_lost_worker_frees_its_slot(store: Store, clock: Clock) -> None:
    first, second = await capped(store, 2, cap=1)
    await take(store)
    await take(store)
    await clock.advance(11)
    await Sweeper(store).sweep()
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)
    assert await stages(store, [first, second]) == [Stage.DELAYED, Stage.RUNNING]


async def released(store: Store, cap: int = 1) -> tuple[Record, Record]:
    """Two operations of a type: the first has been let through and is queued, the second waits."""
    running, first, second = await capped(store, 3, cap=cap)
    [began] = await take(store)
    assert began.id == running.id
    await done(store, began)
    assert await stages(store, [first, second]) == [Stage.QUEUED, Stage.PARKED]
    return first, second


async def test_a_released_operation_that_is_canceled_frees_its_slot_for_the_next(store: Store) -> None:
    first, second = await released(store)
    await store.apply(lifecycle.request_cancel(await now(store, first)))
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)


async def test_a_released_operation_that_is_deleted_frees_its_slot_for_the_next(store: Store) -> None:
    first, second = await released(store)
    await store.apply(lifecycle.hide(await now(store, first)))
    assert ids(await take(store)) == [second.id]


async def test_an_operation_deleted_while_it_runs_keeps_its_slot_until_it_has_stopped(store: Store) -> None:
    first, second = await capped(store, 2, cap=1)
    await take(store)
    hidden = await store.apply(lifecycle.hide(await now(store, first)))
    assert await take(store) == []
    await store.apply(lifecycle.cancel(hidden))
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)


async def test_a_released_operation_that_a_worker_without_its_type_claims_frees_its_slot(store: Store) -> None:
    """It left the queue again: when it comes back, it has to go through the gate as everybody does."""
    first, second = await released(store)
    assert await take(store, "w2", kinds=NOT_CAPPED) == []
    assert (await now(store, first)).blocker == "type"
    await assert_consistent(store)
    [begun] = await take(store)
    assert await take(store) == [], "the cap is one"
    assert (await now(store, second if begun.id == first.id else first)).blocker == "cap"
    await assert_consistent(store)


async def test_a_released_operation_whose_ticket_vanished_frees_its_slot(store: Store, clock: Clock) -> None:
    first, second = await released(store)
    await store.redis.delete(store.keys.queue())
    sweeper = Sweeper(store)
    await sweeper.sweep()
    await clock.advance(VANISHED_AFTER + 1)
    await sweeper.sweep()
    await assert_consistent(store)
    assert ids(await take(store)) == [second.id]
    await clock.advance(2)
    await sweeper.sweep()
    assert await take(store) == [], "the cap is one"
    assert (await now(store, first)).blocker == "cap"


async def test_a_random_mix_of_claims_and_ends_never_exceeds_the_cap_and_starts_everybody(store: Store) -> None:
    random = chance()
    cap = random.randrange(1, 6)
    made = await capped(store, 60, cap=cap)
    running: list[Record] = []
    started: list[str] = []
    for _ in range(1000):
        if random.random() < 0.5:
            got = await take(store, random.choice(["w1", "w2", "w3"]), coroutines=random.randrange(1, 8))
            running += got
            started += ids(got)
        elif random.random() < 0.2 and (popped := await pop(store)) is not None:
            running += popped.started
            started += ids(popped.started)
        elif running:
            await done(store, running.pop(random.randrange(len(running))))
        assert len(running) <= cap
        if not running and len(started) == len(made):
            break
    assert started == ids(made), "in the order of creation"
    await assert_consistent(store)
