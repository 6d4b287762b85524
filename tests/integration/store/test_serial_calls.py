"""Serial calls: their operations run one at a time, in order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import commands, create, done, ids, now, stages, take
from tracker.domain import blame, lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import VANISHED_AFTER, Store


async def serial(store: Store, count: int, **options: Any) -> list[Record]:
    return [await create(store, "serial", serial=True, **options) for _ in range(count)]


async def test_a_calls_serial_operations_run_one_at_a_time_in_the_order_of_creation(store: Store) -> None:
    made = await serial(store, 4)
    assert [record.stage for record in made] == [Stage.QUEUED, *[Stage.PARKED] * 3]
    ran = []
    for _ in made:
        [record] = await take(store)
        assert await take(store, "w2") == [], "one at a time"
        ran.append(record)
        await assert_consistent(store)
        await done(store, record)
    assert ids(ran) == ids(made)


async def test_serial_operations_of_two_types_share_the_queue_of_their_call_and_calls_share_none(store: Store) -> None:
    one = await create(store, "serial", serial=True)
    two = await create(store, "all", serial=True)
    other = await create(store, "serial", serial=True, call_id="call-2")
    plain = await create(store)
    assert set(ids(await take(store))) == {one.id, other.id, plain.id}
    await done(store, await now(store, one))
    assert ids(await take(store)) == [two.id]


ENDINGS: dict[str, Callable[[Record], Change]] = {
    "succeeds": lambda record: lifecycle.succeed(record, DONE, {}),
    "rejects": lambda record: lifecycle.reject(record, DONE, {}),
    "cancels": lifecycle.cancel,
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_however_the_head_ends_the_next_one_follows(store: Store, ending: str) -> None:
    first, second = await serial(store, 2)
    await take(store)
    await store.apply(ENDINGS[ending](await now(store, first)))
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)


@pytest.mark.parametrize("began", [False, True])
async def test_a_deleted_head_gives_way_once_it_does_not_run(store: Store, began: bool) -> None:
    first, second = await serial(store, 2)
    if began:
        await take(store)
    hidden = await store.apply(lifecycle.hide(await now(store, first)))
    if began:
        assert await take(store) == [], "it lives on until its attempt ends"
        await store.apply(lifecycle.cancel(hidden))
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)


AGAIN: dict[str, Callable[[Record], Change]] = {
    "fails": lambda record: lifecycle.fail(record, DONE, {}, after=1.0),
    "is lost": blame.lose,
    "is handed back": lifecycle.hand_back,
}


@pytest.mark.parametrize("how", AGAIN)
async def test_a_head_that_runs_again_keeps_its_position(store: Store, clock: Clock, how: str) -> None:
    first, second = await serial(store, 2)
    [record] = await take(store)
    await clock.advance(11)
    await store.apply(AGAIN[how](record))
    assert (await now(store, second)).stage is Stage.PARKED
    await clock.advance(2)
    await Sweeper(store).sweep()
    [again] = await take(store)
    assert (again.id, again.attempt) == (first.id, 2)
    await done(store, again)
    assert ids(await take(store)) == [second.id]


async def test_a_head_whose_ticket_vanished_keeps_its_position(store: Store, clock: Clock) -> None:
    first, second = await serial(store, 2)
    await store.redis.delete(store.keys.queue())
    sweeper = Sweeper(store)
    await sweeper.sweep()
    await clock.advance(VANISHED_AFTER + 1)
    await sweeper.sweep()
    assert await stages(store, [first, second]) == [Stage.DELAYED, Stage.PARKED]
    await assert_consistent(store)
    await clock.advance(2)
    await sweeper.sweep()
    assert ids(await take(store)) == [first.id]


async def test_a_serial_operation_that_is_canceled_while_it_waits_is_skipped(store: Store) -> None:
    first, second, third = await serial(store, 3)
    await store.apply(lifecycle.request_cancel(second))
    await done(store, *await take(store))
    assert ids(await take(store)) == [third.id]
    assert first.id != third.id
    await assert_consistent(store)


async def test_a_delayed_operation_joins_the_serial_queue_when_it_is_due(store: Store, clock: Clock) -> None:
    late = await create(store, "serial", serial=True, delay=60)
    soon = await create(store, "serial", serial=True, delay=30)
    [first] = await serial(store, 1)
    assert ids(await take(store)) == [first.id], "what is not due holds nobody up"
    await clock.advance(61)
    await store.beat([(first.key, 1)])
    await Sweeper(store).sweep()
    [last] = await serial(store, 1)
    order = []
    await done(store, await now(store, first))
    for _ in range(3):
        [record] = await take(store)
        order.append(record.id)
        await done(store, record)
    assert order == [soon.id, late.id, last.id]


async def test_ten_thousand_serial_operations_of_one_call_cost_others_nothing(store: Store) -> None:
    async def round_of(kind: str, **options: Any) -> int:
        before = await commands(store.redis)
        await create(store, kind, **options)
        got = await take(store, kinds={f"test.{kind}": "coroutines"})
        await done(store, *got)
        assert len(got) == 1
        return await commands(store.redis) - before

    await round_of("plain", call_id="other")  # the tenant's first, which makes its feed
    alone = [await round_of("plain", call_id="other"), await round_of("serial", serial=True, call_id="other")]
    await serial(store, 1, call_id="busy")
    [head] = await take(store)
    for _ in range(200):
        await asyncio.gather(*(create(store, "serial", serial=True, call_id="busy") for _ in range(50)))
    crowded = [await round_of("plain", call_id="other"), await round_of("serial", serial=True, call_id="other")]
    assert crowded == alone
    before = await commands(store.redis)
    await done(store, head)
    assert ids(await take(store)) != ids([head])
    assert await commands(store.redis) - before < 100, "nor does the next of the line"
