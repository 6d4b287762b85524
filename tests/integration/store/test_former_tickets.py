"""Tickets of earlier versions, which have one set of tickets for each lane, and whose workers run beside this one."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import claims, create, done, ids, now, pop, take
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.diagnosis import Diagnoser, Waiting
from tracker.maintenance.sweeper import MAX_BATCH, Sweeper
from tracker.maintenance.verifier import Verifier
from tracker.store.keys import owner_digest
from tracker.store.store import VANISHED_AFTER, Store


async def queued_before(store: Store, *tenants: str) -> list[Record]:
    """Queue operations as an earlier version does: one for each of the tenants, in this order."""
    made = [await create(store, tenant=tenant) for tenant in tenants]
    for record in made:
        await store.redis.zrem(store.keys.ticketed("default", record.tenant), record.key)
        await store.redis.zadd(store.keys.ticketed_by_all("default"), {record.key: record.ticket})
    await store.redis.delete(store.keys.turns("default"), store.keys.known_tenants)
    return made


async def claimed_before(store: Store, worker: str = "old", **options: Any) -> list[Record]:
    """Claim as a worker of an earlier version does: it removes the tickets from its own set only."""
    names: dict[str, Any] = {
        tenant: await store.redis.zrange(store.keys.ticketed("default", tenant), 0, -1, withscores=True)
        for tenant in ("a", "b")
    }
    turns: Any = await store.redis.zrange(store.keys.turns("default"), 0, -1, withscores=True)
    await store.redis.delete(store.keys.turns("default"))
    started = await take(store, worker, **options)
    if turns:
        await store.redis.zadd(store.keys.turns("default"), dict(turns))
    for tenant, members in names.items():
        if members:
            await store.redis.zadd(store.keys.ticketed("default", tenant), dict(members))
    return started


async def former(store: Store) -> list[str]:
    keys: Any = await store.redis.zrange(store.keys.ticketed_by_all("default"), 0, -1)
    return list(keys)


def tickets(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]


async def test_a_claim_takes_the_tickets_of_an_earlier_version_in_their_order(store: Store) -> None:
    made = await queued_before(store, "a", "b", "a")
    assert ids(await take(store, coroutines=2)) == ids(made[:2])
    assert await former(store) == tickets(made[2:])
    assert ids(await take(store, coroutines=1)) == ids(made[2:]), "one at a time, too"
    assert await former(store) == []
    await assert_consistent(store)


async def test_a_claim_in_turn_takes_over_the_tickets_of_an_earlier_version(store: Store) -> None:
    made = await queued_before(store, "a", "b", "c")
    later = [await create(store, tenant=tenant) for tenant in ("a", "d")]
    assert len(await take(store, coroutines=2)) == 2
    assert await former(store) == []
    started = await take(store)
    assert len(started) == 3
    assert not await take(store)
    records = await store.read(tickets([*made, *later]))
    assert {record.stage for record in records} == {Stage.RUNNING}
    await assert_consistent(store)


async def test_the_sweeper_takes_over_the_tickets_of_an_earlier_version(store: Store, settings: Settings) -> None:
    made = await queued_before(store, "a", "b", "a", "c")
    assert (await Sweeper(store).sweep()).converted == 4
    assert await former(store) == []
    assert (
        await store.redis.zcard(store.keys.turns("default")) == await store.redis.zcard(store.keys.known_tenants) == 3
    )
    await assert_consistent(store)
    assert (await Verifier(store, settings, recheck_after=0).verify()).faults == []
    assert sorted(ids(await take(store))) == sorted(ids(made))


async def test_the_sweeper_goes_on_at_once_while_a_whole_batch_was_converted(store: Store) -> None:
    made = await queued_before(store, *["a"] * (MAX_BATCH + 1))
    await Sweeper(store)._sweep_if_locked()
    assert await former(store) == []
    assert await store.redis.zcard(store.keys.ticketed("default", "a")) == len(made)
    await store.redis.delete(store.keys.sweeper)


async def test_before_they_are_taken_over_they_are_no_faults_and_have_a_place(store: Store, settings: Settings) -> None:
    _, second, _ = await queued_before(store, "a", "b", "a")
    assert (await Verifier(store, settings, recheck_after=0).verify()).faults == []
    assert (await Diagnoser(store, settings).diagnose(second.key)).queue == Waiting(1, 3)


async def test_a_ticket_of_an_earlier_version_that_vanished_is_missed(store: Store, clock: Clock) -> None:
    [record, other] = await queued_before(store, "a", "b")
    await store.redis.lpop(store.keys.queue())
    sweeper = Sweeper(store)
    await sweeper.sweep()
    await clock.advance(VANISHED_AFTER + 1)
    assert (await sweeper.sweep()).vanished == 1
    assert (await now(store, record)).vanished == 1
    assert ids(await take(store)) == [other.id]
    await assert_consistent(store)


@pytest.mark.parametrize("change", [lifecycle.request_cancel, lifecycle.hide])
async def test_an_operation_of_an_earlier_version_is_canceled_and_deleted(store: Store, change: Any) -> None:
    [record] = await queued_before(store, "a")
    await store.apply(change(record))
    assert await former(store) == []
    await assert_consistent(store)


async def test_stock_workers_take_the_tickets_of_an_earlier_version(store: Store) -> None:
    made = await queued_before(store, "a", "b")
    answers = [await pop(store) for _ in made]
    assert [ids(answer.started) for answer in answers if answer] == [[record.id] for record in made]
    await assert_consistent(store)


async def test_what_a_worker_of_an_earlier_version_has_claimed_is_not_claimed_again(
    store: Store, settings: Settings
) -> None:
    made = [await create(store, tenant=tenant) for tenant in ("a", "b", "a", "b")]
    old = await claimed_before(store, coroutines=2)
    assert ids(old) == ids(made[:2])
    assert sorted(ids(await take(store))) == sorted(ids(made[2:]))
    await done(store, *old)
    await Sweeper(store).sweep()
    await assert_consistent(store)
    assert (await Verifier(store, settings, recheck_after=0).verify()).faults == []


async def test_the_sweeper_does_not_miss_what_a_worker_of_an_earlier_version_has_claimed(
    store: Store, clock: Clock
) -> None:
    made = [await create(store, tenant=tenant) for tenant in ("a", "b")]
    old = await claimed_before(store)
    assert ids(old) == ids(made)
    sweeper = Sweeper(store)
    for _ in range(2):
        swept = await sweeper.sweep()
        assert (swept.vanished, swept.lost) == (0, 0)
        await clock.advance(VANISHED_AFTER)
        await store.beat([(record.key, record.attempt) for record in old])
    assert not await store.redis.exists(store.keys.suspects, store.keys.turns("default"))
    await assert_consistent(store)


async def test_what_an_earlier_version_queues_again_has_one_ticket(store: Store, clock: Clock) -> None:
    """A worker of the earlier version has claimed a new ticket, and hands the operation back."""
    await create(store, tenant="a")
    [record] = await claimed_before(store)
    again = await store.apply(lifecycle.hand_back(record))
    await store.redis.zadd(store.keys.ticketed("default", "a"), {record.key: record.ticket})
    await store.redis.zadd(store.keys.ticketed_by_all("default"), {record.key: again.ticket})
    sweeper = Sweeper(store)
    await sweeper.sweep()
    await clock.advance(VANISHED_AFTER + 1)
    assert (await sweeper.sweep()).vanished == 0
    await assert_consistent(store)
    assert ids((await claims(store)).started) == [record.id]
    assert await store.redis.zscore(store.keys.turns("default"), owner_digest("a")) is not None


async def test_a_suspect_that_a_worker_of_an_earlier_version_has_claimed_is_forgotten(
    store: Store, clock: Clock
) -> None:
    record = await create(store, tenant="a")
    await take(store)
    await store.redis.zadd(store.keys.suspects, {record.key: 1})
    await clock.advance(1)
    assert (await Sweeper(store).sweep()).vanished == 0
    assert not await store.redis.exists(store.keys.suspects)
    await assert_consistent(store)
