"""The earliest start of an operation, and the latest."""

from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent, server_time
from tests.support.scheduling import KINDS, claims, create, done, ids, now, stages, take
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, SECOND, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.store.script_constants import PROBE_AFTER
from tracker.store.store import Store

WITHOUT_PLAIN = {name: kind for name, kind in KINDS.items() if name != "test.plain"}
ONE_AT_A_TIME: dict[str, dict[str, Any]] = {
    "serial": {"serial": True},
    "capped": {"concurrency": 1},
    "rated": {"rate": 1, "per": 3600.0},
}


async def result(store: Store, record: Record) -> tuple[int, int]:
    """The code and subcode that an operation ended with."""
    ended = await now(store, record)
    assert (ended.stage, type(ended.result_info)) == (Stage.FAILED, ResultInfo)
    assert ended.result_info is not None
    return ended.result_info.code, ended.result_info.subcode


@pytest.mark.parametrize("seconds", [0.5, 100.0])
async def test_a_delayed_operation_starts_when_it_is_due_and_not_before(
    store: Store, clock: Clock, seconds: float
) -> None:
    record = await create(store, delay=seconds)
    sweeper = Sweeper(store)
    assert record.not_before == pytest.approx(record.created + seconds * SECOND, abs=1)
    assert (await sweeper.sweep()).due == 0
    assert await take(store) == []
    await assert_consistent(store)
    await clock.advance(seconds)
    assert (await sweeper.sweep()).due == 1
    assert ids(await take(store)) == [record.id]


async def test_of_a_delay_and_a_date_the_later_one_counts(store: Store, clock: Clock) -> None:
    date = await server_time(store) + 50 * SECOND
    by_date = await create(store, not_before=date, delay=10)
    by_delay = await create(store, not_before=date, delay=100)
    past = await create(store, not_before=1)
    made = [by_date, by_delay, past]
    assert await stages(store, made) == [Stage.DELAYED, Stage.DELAYED, Stage.QUEUED]
    assert (by_date.not_before, past.not_before) == (date, 0)
    await clock.advance(51)
    await Sweeper(store).sweep()
    assert await stages(store, made) == [Stage.QUEUED, Stage.DELAYED, Stage.QUEUED]


async def test_what_is_due_starts_in_the_order_in_which_it_became_due(store: Store, clock: Clock) -> None:
    late, soon = await create(store, delay=20), await create(store, delay=10)
    await clock.advance(30)
    await Sweeper(store).sweep()
    assert ids(await take(store)) == ids([soon, late])


async def test_a_delayed_operation_that_is_canceled_never_starts(store: Store, clock: Clock) -> None:
    record = await create(store, delay=20)
    await store.apply(lifecycle.request_cancel(record))
    await assert_consistent(store)
    await clock.advance(30)
    assert (await Sweeper(store).sweep()).due == 0
    assert await result(store, record) == (499, 0)


async def test_what_nobody_takes_in_time_ends_with_408(store: Store, clock: Clock) -> None:
    record = await create(store, start_within=60.0)
    sweeper = Sweeper(store)
    await clock.advance(59)
    assert (await sweeper.sweep()).missed == 0
    await clock.advance(2)
    assert (await sweeper.sweep()).missed == 1
    assert await result(store, record) == (408, 2)
    assert await take(store) == []
    await assert_consistent(store)


@pytest.mark.parametrize("limit", ONE_AT_A_TIME)
async def test_what_is_held_up_too_long_ends_with_408_and_lets_others_go(
    store: Store, clock: Clock, limit: str
) -> None:
    first = await create(store, limit, **ONE_AT_A_TIME[limit])
    [running] = await take(store)
    record = await create(store, limit, start_within=60.0, **ONE_AT_A_TIME[limit])
    behind = await create(store, limit, **ONE_AT_A_TIME[limit])
    assert await take(store) == []
    await clock.advance(61)
    await store.beat([(first.key, 1)])
    assert (await Sweeper(store).sweep()).missed == 1
    assert await result(store, record) == (408, 2)
    await assert_consistent(store)
    await done(store, running)
    await clock.advance(3600)
    assert ids(await take(store)) == [behind.id]


@pytest.mark.parametrize("asked", [False, True])
async def test_a_type_that_nobody_has_in_time_ends_with_501(store: Store, clock: Clock, asked: bool) -> None:
    record = await create(store, start_within=60.0)
    await claims(store, kinds=WITHOUT_PLAIN)
    sweeper = Sweeper(store)
    if asked:
        await clock.advance(PROBE_AFTER + 1)
        await sweeper.sweep()
        await claims(store, kinds=WITHOUT_PLAIN)
    await clock.advance(61)
    assert (await sweeper.sweep()).missed == 1
    assert await result(store, record) == (501, 1)
    await assert_consistent(store)


async def test_the_start_deadline_is_over_with_the_first_start(store: Store, clock: Clock) -> None:
    record = await create(store, start_within=60.0)
    [running] = await take(store)
    await store.apply(lifecycle.fail(running, DONE, {}, after=300.0))
    await clock.advance(61)
    assert (await Sweeper(store).sweep()).missed == 0
    assert (await now(store, record)).stage is Stage.DELAYED
    await assert_consistent(store)


async def test_a_start_deadline_counts_from_when_it_may_start(store: Store, clock: Clock) -> None:
    record = await create(store, delay=100, start_within=60.0)
    sweeper = Sweeper(store)
    await clock.advance(101)
    await sweeper.sweep()
    assert (await now(store, record)).stage is Stage.QUEUED
    await clock.advance(58)
    assert (await sweeper.sweep()).missed == 0
    await clock.advance(2)
    assert (await sweeper.sweep()).missed == 1
    assert await result(store, record) == (408, 2)
