"""`tracker doctor --verify` and `--repair`: each index that a test breaks is named and repaired."""

from itertools import product

import pytest

from tests.support.placements import (
    EVERYTHING,
    PLACEMENTS,
    SETS,
    Make,
    key_of,
    queued,
    repair_all,
    retried,
    running,
    waiting_for_rate,
    waiting_in_serial_queue,
)
from tests.support.scheduling import create, ids, now, take
from tracker.config import Settings
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.verifier import Verifier
from tracker.store.store import Store


@pytest.fixture
def verifier(store: Store, settings: Settings) -> Verifier:
    return Verifier(store, settings, recheck_after=0)


async def take_out(store: Store, record: Record, place: str) -> str:
    name = key_of(store, record, place)
    if place == "ticket":
        assert await store.redis.lrem(name, 0, f"{record.key}-{record.ticket}")
    elif place == "ids":
        assert await store.redis.hdel(name, record.id)
    elif place in {"turn", "gates", "lacking", "processes", "workers"}:
        assert await store.redis.delete(name)
    else:
        assert await store.redis.zrem(name, record.key)
    return name


@pytest.mark.parametrize("make", PLACEMENTS)
async def test_a_placement_without_faults_has_none(store: Store, verifier: Verifier, make: Make) -> None:
    record = await make(store)
    verdict = await verifier.verify()
    assert verdict.faults == []
    assert verdict.operations == await store.redis.hlen(store.keys.ids(record.tenant))
    assert verdict.members >= len(PLACEMENTS[make]) - 2, "a ticket and a gate hold no operations of their own"


@pytest.mark.parametrize(("make", "place"), [(make, place) for make, places in PLACEMENTS.items() for place in places])
async def test_a_missing_index_entry_is_named_and_repaired(
    store: Store, verifier: Verifier, make: Make, place: str
) -> None:
    record = await make(store)
    where = await take_out(store, record, place)
    if place == "suspects":
        where = key_of(store, record, "ticketed")  # where it should be, as nobody suspects anything now
    found = (await verifier.verify()).faults
    assert (record.key, where) in {(fault.key, fault.where) for fault in found}
    assert {fault.id for fault in found if fault.key == record.key} == {record.id}
    await repair_all(store, verifier, record)
    assert (await now(store, record)).stage in {record.stage, Stage.QUEUED, Stage.PARKED}
    assert (record.stage in {Stage.QUEUED, Stage.PARKED}) or (await now(store, record)) == record, "its record stays"


@pytest.mark.parametrize(
    ("make", "place"),
    [(make, place) for make, place in product(PLACEMENTS, SETS) if place not in PLACEMENTS[make]],
)
async def test_a_surplus_index_entry_is_named_and_repaired(
    store: Store, verifier: Verifier, make: Make, place: str
) -> None:
    record = await make(store)
    where = key_of(store, record, place)
    await store.redis.zadd(where, {record.key: 7})
    found = (await verifier.verify()).faults
    assert (record.key, where) in {(fault.key, fault.where) for fault in found}
    await repair_all(store, verifier, record)


async def test_a_record_that_is_gone_is_taken_out_of_everything_and_whoever_waited_for_it_goes_on(
    store: Store, verifier: Verifier
) -> None:
    record = await retried(store)
    following = await create(store, "all", **EVERYTHING)
    await store.redis.delete(store.keys.operation(record.key))
    found = (await verifier.verify()).faults
    gone = {key_of(store, record, place) for place in PLACEMENTS[retried]}
    assert {(fault.key, fault.where) for fault in found} == {(record.key, where) for where in gone}
    assert {(fault.id, fault.what) for fault in found} == {("", "in this key, but its record is gone")}
    await repair_all(store, verifier, record)
    assert ids(await take(store)) == [following.id]


async def test_an_id_that_leads_to_another_operation_is_named_and_left(store: Store, verifier: Verifier) -> None:
    one, other = await create(store), await create(store)
    await store.redis.hset(store.keys.ids("test"), one.id, other.key)
    [lost, wrong] = sorted((await verifier.verify()).faults, key=lambda fault: fault.stray)
    assert (lost.key, lost.what) == (one.key, "queued, but not in this key")
    assert (wrong.key, wrong.stray, wrong.what) == (other.key, one.id, "in this key, but belongs elsewhere")
    await repair_all(store, verifier, one)
    assert (await store.find("test", one.id)).key == one.key
    assert (await store.find("test", other.id)).key == other.key


@pytest.mark.parametrize(("field", "value"), [("stage", "resting"), ("stage", None), ("lane", "express")])
async def test_a_record_that_this_version_does_not_know_is_named_and_left_alone(
    store: Store, verifier: Verifier, field: str, value: str | None
) -> None:
    record = await create(store)
    name = store.keys.operation(record.key)
    await (store.redis.hdel(name, field) if value is None else store.redis.hset(name, field, value))
    found = (await verifier.verify()).faults
    assert (name, "this version does not know its stage or lane") in {(fault.where, fault.what) for fault in found}
    before = await store.redis.dump(store.keys.ticketed("default", "test")), await store.redis.hgetall(name)
    assert await verifier.repair(found) == 0
    assert (await store.redis.dump(store.keys.ticketed("default", "test")), await store.redis.hgetall(name)) == before


@pytest.mark.parametrize(
    ("make", "field", "value", "what"),
    [
        (waiting_in_serial_queue, "blocker", "moon", "parked, and blocked by moon"),
        (waiting_in_serial_queue, "blocker", "", "parked, and blocked by nothing"),
        (waiting_for_rate, "blocker", "serial", "parked, and blocked by serial"),
        (queued, "ticket", "99", "queued with ticket 99, but in this key with"),
    ],
)
async def test_a_record_that_contradicts_its_placement_is_named_and_repaired(
    store: Store, verifier: Verifier, make: Make, field: str, value: str, what: str
) -> None:
    record = await make(store)
    await store.redis.hset(store.keys.operation(record.key), field, value)
    assert any(fault.what.startswith(what) for fault in (await verifier.verify()).faults)
    await repair_all(store, verifier, record)


async def test_the_slots_of_a_concurrency_limit_say_who_runs(store: Store, verifier: Verifier) -> None:
    record = await running(store)
    await store.redis.zadd(store.keys.limiter(record.type, "taken"), {record.key: 0})
    [fault] = (await verifier.verify()).faults
    assert fault.what == "running, but in this key as queued"
    await repair_all(store, verifier, record)
