"""Damaged records: claims, heartbeats, changes, creates and reads go on with all other operations."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.clock import Clock
from tests.support.damages import DAMAGES, ODD_POLICIES, SEEN_BY_SCRIPTS, Damage, remove_other_types
from tests.support.records import make_record
from tests.support.scheduling import claims, create, done, ids, now, pop, take
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.transitions import Stage
from tracker.errors import Conflict, TrackerError
from tracker.maintenance.sweeper import Sweeper
from tracker.store.record_reader import LOGGED_EVERY, MAX_REMEMBERED, RecordReader, UnreadableRecord
from tracker.store.script_replies import ChangeReply
from tracker.store.store import Store, pack


@pytest.fixture(autouse=True)
async def no_keys_of_other_types(store: Store) -> AsyncIterator[None]:
    yield
    await remove_other_types(store)


EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
EVERY_DAMAGE_SEEN_BY_SCRIPTS = pytest.mark.parametrize("damage", SEEN_BY_SCRIPTS.values(), ids=SEEN_BY_SCRIPTS)


@EVERY_DAMAGE
async def test_a_claim_takes_the_operations_before_and_behind_it(store: Store, damage: Damage) -> None:
    before, damaged, behind = [await create(store) for _ in range(3)]
    await damage(store, damaged)
    taken = ids(await take(store))
    assert [id_ for id_ in taken if id_ != damaged.id] == [before.id, behind.id], "a claim may mend a wrong status"
    assert await take(store) == []
    await done(store, await now(store, before), await now(store, behind))


@pytest.mark.parametrize("damage", ODD_POLICIES.values(), ids=ODD_POLICIES)
async def test_a_policy_that_makes_no_sense_stops_no_claim_and_no_sweep(
    store: Store, clock: Clock, damage: Damage
) -> None:
    before, odd, behind = [await create(store) for _ in range(3)]
    await damage(store, odd)
    taken = await take(store)
    assert {before.id, behind.id} <= set(ids(taken))
    await done(store, *taken)
    await clock.advance(10)
    await Sweeper(store).sweep()
    assert [(await now(store, record)).status for record in (before, behind)] == ["Completed", "Completed"]


@EVERY_DAMAGE
async def test_a_stock_worker_takes_the_others(store: Store, damage: Damage) -> None:
    damaged, other = await create(store), await create(store)
    await damage(store, damaged)
    assert await pop(store) is not None
    reply = await pop(store)
    assert reply is not None
    assert ids(reply.started) == [other.id]


@EVERY_DAMAGE_SEEN_BY_SCRIPTS
async def test_those_that_wait_for_the_same_limit_go_on(store: Store, damage: Damage) -> None:
    first, damaged, last = [await create(store, "capped", concurrency=1) for _ in range(3)]
    assert ids(await take(store)) == [first.id]
    await damage(store, damaged)
    await done(store, await now(store, first))
    assert ids(await take(store)) == [last.id]


@EVERY_DAMAGE_SEEN_BY_SCRIPTS
async def test_those_that_wait_for_the_same_type_go_on(store: Store, damage: Damage) -> None:
    damaged, other = await create(store), await create(store)
    assert await take(store, kinds={"test.function": "functions"}) == []
    await damage(store, damaged)
    assert ids(await take(store)) == [other.id]


@EVERY_DAMAGE
async def test_a_heartbeat_renews_the_leases_of_all_others(store: Store, damage: Damage) -> None:
    records = [await create(store) for _ in range(3)]
    await take(store)
    await damage(store, records[1])
    words = await store.beat([(record.key, 1) for record in records])
    assert (words[0], words[2]) == ("OK", "OK")
    assert words[1] in {"OK", "REFUSED"}


@EVERY_DAMAGE
async def test_the_outcomes_of_others_in_the_same_batch_are_written(store: Store, damage: Damage) -> None:
    for _ in range(3):
        await create(store)
    running = await take(store)
    await damage(store, running[1])
    words = await store.write([pack(lifecycle.succeed(record, DONE, {})) for record in running])
    assert (words[0], words[2]) == (ChangeReply.OK, ChangeReply.OK)
    assert {(await now(store, running[at])).stage for at in (0, 2)} == {Stage.COMPLETED}


@EVERY_DAMAGE
async def test_reads_of_one_turn_fail_for_the_damaged_record_alone(store: Store, damage: Damage) -> None:
    records = [await create(store) for _ in range(3)]
    await damage(store, records[1])
    found = await asyncio.gather(*(store.find("test", record.id) for record in records), return_exceptions=True)
    assert [found[0], found[2]] == [records[0], records[2]]
    assert isinstance(found[1], UnreadableRecord)
    assert ids(await store.read([record.key for record in records])) == [records[0].id, records[2].id]


@EVERY_DAMAGE
async def test_creates_of_one_turn_are_stored_beside_one_that_repeats_it(store: Store, damage: Damage) -> None:
    damaged = await create(store)
    await damage(store, damaged)
    again = make_record(id=damaged.id, type=damaged.type, digest=damaged.digest)
    found = await asyncio.gather(
        store.create(make_record()), store.create(again), store.create(make_record()), return_exceptions=True
    )
    assert not isinstance(found[0], BaseException)
    assert not isinstance(found[2], BaseException)
    assert isinstance(found[1], Conflict | TrackerError)
    assert len(await take(store, kinds={"microsoft.graph.commsoperation": "coroutines"})) == 2


async def test_a_create_beside_a_call_whose_index_is_damaged_is_stored(store: Store) -> None:
    await store.redis.set(store.keys.call("test", "damaged"), "x")
    found = await asyncio.gather(
        store.create(make_record()),
        store.create(make_record(call_id="damaged")),
        store.create(make_record()),
        return_exceptions=True,
    )
    assert [isinstance(outcome, BaseException) for outcome in found] == [False, True, False]
    await store.redis.delete(store.keys.call("test", "damaged"))


async def test_a_claim_that_is_repeated_leaves_out_what_was_damaged_meanwhile(store: Store) -> None:
    records = [await create(store) for _ in range(3)]
    assert len(await take(store, batch="same")) == 3
    await SEEN_BY_SCRIPTS["a string in its place"](store, records[1])
    assert ids((await claims(store, batch="same")).started) == [records[0].id, records[2].id]


async def test_a_record_that_names_another_key_is_changed_under_neither(store: Store) -> None:
    one, other = await create(store), await create(store)
    await store.redis.hset(store.keys.operation(one.key), "key", other.key)
    assert ids(await store.read([one.key, other.key])) == [other.id]
    assert ids(await take(store)) == [other.id]


async def test_a_damaged_record_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    time = 0.0
    reader = RecordReader(monotonic=lambda: time)
    for _ in range(3):
        assert reader.readable({"key": "1", "stage": "x"}) is None
        assert reader.readable({"key": "2", "stage": "x"}) is None
    assert capsys.readouterr().out.count("record_unreadable") == 2
    time = LOGGED_EVERY
    assert reader.readable({"key": "1", "stage": "x"}) is None
    assert capsys.readouterr().out.count("record_unreadable") == 1
    for number in range(2 * MAX_REMEMBERED):
        assert reader.readable({"key": f"key {number}", "stage": "x"}) is None
    assert len(reader._logged) <= MAX_REMEMBERED
