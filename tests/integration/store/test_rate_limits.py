"""The rate limit of a type, over all workers, alone and beside a concurrency limit and serial calls."""

from itertools import combinations
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import chance, create, done, ids, now, pop, take
from tracker.domain import lifecycle
from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import Store


async def rated(store: Store, count: int, rate: int = 3, per: float = 60.0, **options: Any) -> list[Record]:
    return [await create(store, "rated", rate=rate, per=per, **options) for _ in range(count)]


def assert_within(rate: int, per: float, starts: list[Record]) -> None:
    """However one looks: no more starts between two moments than a full bucket and what flowed in meanwhile."""
    for (i, first), (j, last) in combinations(enumerate(starts), 2):
        most = rate + rate * (last.began - first.began) / (per * SECOND)
        assert j - i + 1 <= most + 1e-3, f"{j - i + 1} starts in {(last.began - first.began) / SECOND} s"


async def test_a_full_bucket_may_be_used_at_once_and_refills_token_by_token(store: Store, clock: Clock) -> None:
    made = await rated(store, 8)
    started = await take(store)
    assert len(started) == 3
    assert (await now(store, made[3])).blocker == "rate"
    await clock.advance(19)
    assert await take(store) == [], "a token takes 20 s"
    for _ in range(2):
        await clock.advance(20)
        started += await take(store)
    assert len(started) == 5
    await clock.advance(600)
    started += await take(store)
    assert ids(started) == ids(made), "a bucket never holds more than its rate, and the order is that of creation"
    assert_within(3, 60.0, started)
    await assert_consistent(store)


async def test_a_bucket_that_rested_lets_no_more_than_its_rate_through(store: Store, clock: Clock) -> None:
    await rated(store, 8)
    assert len(await take(store)) == 3
    await clock.advance(3600)
    assert len(await take(store)) == 3


@pytest.mark.parametrize(("rate", "per"), [(2, 0.1), (1, 0.001), (999_999_999, 1.0), (1, 0.25)])
async def test_intervals_below_a_second_and_rates_above_any_clock_work(store: Store, rate: int, per: float) -> None:
    made = await rated(store, 6, rate=rate, per=per)
    started: list[Record] = []
    while len(started) < len(made):
        started += await take(store)
        await assert_consistent(store)
    assert ids(started) == ids(made)
    assert_within(rate, per, started)


async def test_the_sweeper_releases_rate_limited_operations_for_rqs_own_workers(store: Store, clock: Clock) -> None:
    await rated(store, 3, rate=1, per=10.0)
    started = 0
    for _ in range(3):
        while (popped := await pop(store)) is not None:
            started += len(popped.started)
        await clock.advance(10)
        await Sweeper(store).sweep()
    assert started == 3


async def test_what_was_let_through_while_no_worker_lived_does_not_start_all_at_once(
    store: Store, clock: Clock
) -> None:
    await rated(store, 20, rate=2, per=1.0)
    started = await take(store)
    assert len(started) == 2
    sweeper = Sweeper(store)
    for _ in range(15):
        await clock.advance(1)
        await sweeper.sweep()
        await assert_consistent(store)
    started += await take(store)
    assert_within(2, 1.0, started)


async def test_new_ones_do_not_overtake_those_that_wait_for_a_token(store: Store, clock: Clock) -> None:
    made = await rated(store, 5, rate=2, per=10.0)
    started = await take(store)
    for _ in range(4):
        await clock.advance(5)
        made += await rated(store, 1, rate=2, per=10.0)
        popped = await pop(store)
        started += popped.started if popped else []
        await store.beat([(record.key, record.attempt) for record in started])
        await Sweeper(store).sweep()
        started += await take(store)
    assert ids(started) == ids(made[: len(started)])
    assert len(started) == 6


async def test_a_mass_cancel_of_what_was_let_through_blocks_nobody(store: Store, clock: Clock) -> None:
    made = await rated(store, 100, rate=3, per=3600.0)
    await done(store, *await take(store))
    await clock.advance(3600)
    await Sweeper(store).sweep()
    for record in made[3:]:
        await store.apply(lifecycle.request_cancel(await now(store, record)))
    await assert_consistent(store)
    [last] = await rated(store, 1, per=3600.0)
    assert ids(await take(store)) == [last.id], "whoever was canceled before its start has used no token"


async def test_random_arrivals_and_pauses_never_start_faster_than_the_rate(store: Store, clock: Clock) -> None:
    random = chance()
    rate, per = random.randrange(1, 6), random.choice([0.5, 3.0, 20.0])
    made: list[Record] = []
    started: list[Record] = []
    sweeper = Sweeper(store)
    for _ in range(250):
        match random.randrange(6):
            case 0 | 1:
                made += await rated(store, random.randrange(1, 4), rate=rate, per=per)
            case 2:
                started += await take(store, coroutines=random.randrange(1, 10))
            case 3:
                popped = await pop(store)
                started += popped.started if popped else []
            case 4:
                await sweeper.sweep()
            case _:
                await clock.advance(random.choice([0.01, per / rate, per, 3 * per]))
        await store.beat([(record.key, record.attempt) for record in started])
        if random.random() < 0.1:
            await assert_consistent(store)
    assert_within(rate, per, started)
    assert started


async def test_cap_rate_and_serial_calls_hold_together(store: Store, clock: Clock) -> None:
    random = chance()
    limits = {"serial": True, "concurrency": 2, "rate": 4, "per": 10.0}
    made = [await create(store, "all", call_id=f"call-{number % 5}", **limits) for number in range(40)]
    calls: dict[str, list[str]] = {}
    running: list[Record] = []
    started: list[Record] = []
    for _ in range(2000):
        if len(started) == len(made):
            break
        if random.random() < 0.5:
            got = await take(store, random.choice(["w1", "w2"]))
            running, started = running + got, started + got
        elif running:
            await done(store, running.pop(random.randrange(len(running))))
        else:
            await clock.advance(random.choice([0.5, 2.5]))
        assert len(running) <= 2
        assert len({record.call_id for record in running}) == len(running), "a call's run one at a time"
        await store.beat([(record.key, record.attempt) for record in running])
    assert_within(4, 10.0, started)
    for record in started:
        calls.setdefault(record.call_id, []).append(record.id)
    assert calls == {call: ids(record for record in made if record.call_id == call) for call in calls}
    assert len(started) == len(made)
    await assert_consistent(store)
