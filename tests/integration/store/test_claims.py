"""Claims: which worker gets which operation, in which order, and what is published about it."""

from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis as BlockingRedis
from rq.suspension import resume, suspend

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.pubsub import subscribed
from tests.support.scheduling import KINDS, claims, create, done, ids, now, pop, take
from tracker.domain import lifecycle
from tracker.domain.operation import ResultInfo
from tracker.domain.transitions import Stage
from tracker.errors import Refused
from tracker.maintenance.sweeper import Sweeper
from tracker.store.script_constants import PROBE_AFTER, WINDOW
from tracker.store.store import Store

if TYPE_CHECKING:
    from tracker.domain.record import Record

WITHOUT_PLAIN = {name: kind for name, kind in KINDS.items() if name != "test.plain"}


async def queued(store: Store, lane: str = "default") -> list[str]:
    """The keys on a lane's queue, in order."""
    jobs: Any = await store.redis.lrange(store.keys.queue(lane), 0, -1)
    return [job.split("-")[0] for job in jobs]


# --- a batch


async def test_a_claim_takes_as_many_of_each_kind_as_there_is_room_for_first_in_first_out(store: Store) -> None:
    made = [await create(store, "function" if number % 2 else "plain") for number in range(20)]
    got = await take(store, coroutines=3, functions=5)
    assert ids(got) == [record.id for number, record in enumerate(made) if number < (10 if number % 2 else 6)]
    assert all((record.worker, record.attempt) == ("w1", 1) for record in got)
    await assert_consistent(store)


async def test_operations_without_room_keep_their_position(store: Store) -> None:
    made = [await create(store, kind) for kind in ("function", "function", "plain", "function", "plain")]
    assert ids(await take(store, functions=0)) == ids([made[2], made[4]])
    assert await queued(store) == [made[number].key for number in (0, 1, 3)]
    await assert_consistent(store)
    assert ids(await take(store, functions=2)) == ids(made[:2])
    assert await take(store, coroutines=0, functions=0) == []


async def test_one_claim_looks_at_a_bounded_part_of_a_queue(store: Store) -> None:
    for _ in range(WINDOW):
        await create(store, "function")
    behind = await create(store)
    assert await take(store, functions=0) == []
    assert len(await take(store, coroutines=0, functions=1)) == 1
    assert ids(await take(store, functions=0)) == [behind.id]


@pytest.mark.parametrize("suspended", [False, True])
async def test_a_claim_that_is_repeated_claims_nothing_more(store: Store, suspended: bool) -> None:
    """Its answer was lost; the worker asks again, under the same name."""
    for _ in range(4):
        await create(store)
    first = await claims(store, coroutines=2, batch="b1")
    if suspended:
        await store.redis.set("rq:suspended", 1)
    assert (await claims(store, coroutines=2, batch="b1")).started == first.started
    await done(store, first.started[0])
    assert await take(store, coroutines=2, batch="b1") == first.started[1:], "what has ended is not begun again"
    await store.apply(lifecycle.hand_back(first.started[1]))
    assert await take(store, coroutines=2, batch="b1") == []
    await store.redis.delete("rq:suspended")
    assert len(await take(store, coroutines=2, batch="b2")) == 2


async def test_two_workers_never_get_the_same_operation(store: Store) -> None:
    made = [await create(store) for _ in range(20)]
    got = [await take(store, f"w{number % 3}", coroutines=3) for number in range(8)]
    assert [record.id for part in got for record in part] == ids(made)


async def test_a_suspended_service_starts_nothing_until_it_is_resumed(store: Store, redis_url: str) -> None:
    record = await create(store)
    with BlockingRedis.from_url(redis_url) as redis:
        suspend(redis)
        answer = await claims(store)
        assert (answer.suspended, answer.started) == (True, [])
        assert await queued(store) == [record.key]
        resume(redis)
    assert ids(await take(store)) == [record.id]


# --- types that nobody has


async def test_a_type_that_a_worker_lacks_waits_for_a_worker_that_has_it(store: Store) -> None:
    first, second = await create(store), await create(store)
    answer = await claims(store, "w1", kinds=WITHOUT_PLAIN)
    assert ids(answer.parked) == ids([first, second])
    assert {record.blocker for record in answer.parked} == {"type"}
    assert await take(store, "w1", kinds=WITHOUT_PLAIN) == [], "nor is it asked again"
    await assert_consistent(store)
    assert ids(await take(store, "w2", coroutines=1)) == [first.id]
    assert ids(await take(store, "w2")) == [second.id]
    await assert_consistent(store)


async def test_the_sweeper_asks_rqs_own_workers_and_one_that_is_able_gets_the_rest(store: Store, clock: Clock) -> None:
    made = [await create(store) for _ in range(4)]
    for _ in made:
        await pop(store, kinds=WITHOUT_PLAIN)
    sweeper = Sweeper(store)
    await sweeper.sweep()
    assert await queued(store) == [], "not at once: they would hand it round and round"
    await clock.advance(PROBE_AFTER + 1)
    await sweeper.sweep()
    assert await queued(store) == [made[0].key]
    await pop(store, kinds=WITHOUT_PLAIN)
    assert (await now(store, made[0])).stage is Stage.PARKED
    await clock.advance(PROBE_AFTER + 1)
    await sweeper.sweep()
    await assert_consistent(store)
    started: list[Record] = []
    while (answer := await pop(store)) is not None:
        started += answer.started
    assert ids(started) == ids(made)
    await assert_consistent(store)


async def test_a_type_that_nobody_has_in_time_ends_with_501(store: Store, clock: Clock) -> None:
    record = await create(store, start_within=60.0)
    await claims(store, kinds=WITHOUT_PLAIN)
    await clock.advance(61)
    assert (await Sweeper(store).sweep()).missed == 1
    ended = await now(store, record)
    assert ended.result_info is not None
    assert (ended.stage, ended.result_info.code, ended.result_info.subcode) == (Stage.FAILED, 501, 1)
    await assert_consistent(store)


# --- what is told


async def test_idle_workers_are_woken_when_a_queue_is_no_longer_empty(store: Store) -> None:
    async with subscribed(store.redis, store.keys.wake) as subscription:
        await create(store, priority="low")
        await create(store)
        assert await subscription.texts() == ["operations.low", "operations"]
        await create(store)
        assert await subscription.texts() == []
        [record, *_] = await take(store)
        await store.apply(lifecycle.hand_back(record))
        assert len(await subscription.texts()) == 1


async def test_a_cancel_is_published_to_the_worker_that_runs_the_operation(store: Store) -> None:
    record, other = await create(store), await create(store)
    await take(store, "w7")
    async with subscribed(store.redis, store.keys.control("w7")) as subscription:
        await store.apply(lifecycle.request_cancel(await now(store, record), "enough"))
        assert await subscription.texts() == [f"cancel {record.key} 1"]
        await store.apply(lifecycle.hide(await now(store, other)))
        assert await subscription.texts() == [f"cancel {other.key} 1"]


async def test_the_last_attempts_that_did_not_end_well_are_kept(store: Store, clock: Clock) -> None:
    record = await create(store, attempts=20)
    for _ in range(12):
        [running] = await take(store)
        await store.apply(lifecycle.fail(running, ResultInfo(code=500, message="é\n"), {}, after=0.0))
        with pytest.raises(Refused):
            await store.apply(lifecycle.hand_back(running))
        await Sweeper(store).sweep()
    kept = await store.history(record.key)
    assert [(entry["attempt"], entry["worker"], entry["outcome"]) for entry in kept] == [
        (number, "w1", "retry") for number in range(3, 13)
    ]
    assert all(entry["started"] < entry["ended"] for entry in kept)
    [running] = await take(store)
    await done(store, running)
    assert await store.redis.ttl(store.keys.history(record.key)) > 0, "it lives as long as its record"
    await clock.advance(604_801)
    await Sweeper(store).sweep()
    assert await store.history(record.key) == []
