"""Damaged records: the sweeper goes on with all others, and `tracker doctor --verify` names them."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.clock import Clock
from tests.support.damages import DAMAGES, Damage, remove_other_types
from tests.support.placements import PLACEMENTS, queued, running
from tests.support.scheduling import create, done, now, take
from tracker.cli.overview import look
from tracker.config import Settings
from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import NotFound
from tracker.maintenance import sweeper as sweeper_module
from tracker.maintenance.diagnosis import Diagnoser
from tracker.maintenance.sweeper import Sweeper
from tracker.maintenance.verifier import Verifier
from tracker.store.record_reader import UnreadableRecord
from tracker.store.store import LEASE, VANISHED_AFTER, Store


@pytest.fixture(autouse=True)
async def no_keys_of_other_types(store: Store) -> AsyncIterator[None]:
    yield
    await remove_other_types(store)


EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@pytest.fixture
def verifier(store: Store, settings: Settings) -> Verifier:
    return Verifier(store, settings, recheck_after=0)


async def _lost(store: Store, clock: Clock) -> tuple[Record, Record]:
    await create(store)
    await create(store)
    damaged, other = await take(store)
    await clock.advance(LEASE + 1)
    return damaged, other


async def _due(store: Store, clock: Clock) -> tuple[Record, Record]:
    damaged, other = [await create(store, delay=5) for _ in range(2)]
    await clock.advance(6)
    return damaged, other


async def _vanished(store: Store, clock: Clock) -> tuple[Record, Record]:
    damaged, other = [await create(store) for _ in range(2)]
    await store.redis.delete(store.keys.queue("default"))
    await Sweeper(store).sweep()
    await clock.advance(VANISHED_AFTER + 1)
    return damaged, other


async def _missed(store: Store, clock: Clock) -> tuple[Record, Record]:
    damaged, other = [await create(store, start_within=5.0) for _ in range(2)]
    await clock.advance(6)
    return damaged, other


async def _expired(store: Store, clock: Clock) -> tuple[Record, Record]:
    for _ in range(2):
        await create(store, retention=5.0)
    damaged, other = await take(store)
    await done(store, damaged, other)
    await clock.advance(6)
    return damaged, other


DUTIES: dict[Callable[[Store, Clock], Awaitable[tuple[Record, Record]]], set[Stage]] = {
    _lost: {Stage.DELAYED},
    _due: {Stage.QUEUED},
    _vanished: {Stage.DELAYED},
    _missed: {Stage.FAILED},
    _expired: {Stage.TOMBSTONE},
}


@EVERY_DAMAGE
@pytest.mark.parametrize(("make", "stages"), DUTIES.items(), ids=[make.__name__ for make in DUTIES])
async def test_a_sweep_does_its_duties_for_the_others(
    store: Store,
    clock: Clock,
    damage: Damage,
    make: Callable[[Store, Clock], Awaitable[tuple[Record, Record]]],
    stages: set[Stage],
) -> None:
    damaged, other = await make(store, clock)
    await damage(store, damaged)
    await Sweeper(store).sweep()
    assert {(await now(store, other)).stage} == stages


async def test_a_sweep_reaches_others_behind_more_damaged_records_than_it_reads_at_once(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "MAX_BATCH", 2)
    for _ in range(6):
        await create(store)
    *damaged, last = await take(store)
    for record in damaged:
        await DAMAGES["members that are no JSON"](store, record)
    await clock.advance(LEASE + 1)
    sweeper = Sweeper(store)
    for _ in range(3):
        await sweeper.sweep()
    assert (await now(store, last)).stage is Stage.DELAYED


async def test_a_record_that_is_readable_again_is_swept_after_a_while(store: Store, clock: Clock) -> None:
    damaged, _ = await _lost(store, clock)
    await store.redis.hset(store.keys.operation(damaged.key), "status", "Resting")
    sweeper = Sweeper(store)
    await sweeper.sweep()
    await store.redis.hset(store.keys.operation(damaged.key), "status", "Running")
    await sweeper.sweep()
    assert (await now(store, damaged)).stage is Stage.RUNNING, "it is still left aside"
    sweeper._aside.clear()
    await sweeper.sweep()
    assert (await now(store, damaged)).stage is Stage.DELAYED


@EVERY_DAMAGE
@pytest.mark.parametrize("make", [queued, running], ids=lambda make: make.__name__)
async def test_verify_names_a_damaged_record_and_repair_leaves_it(
    store: Store, verifier: Verifier, damage: Damage, make: Callable[[Store], Awaitable[Record]]
) -> None:
    assert make in PLACEMENTS
    record = await make(store)
    await damage(store, record)
    name = store.keys.operation(record.key)
    found = (await verifier.verify()).faults
    assert {fault.key for fault in found} == {record.key}
    [what] = [fault.what for fault in found if fault.where == name]
    assert what.startswith(("its record cannot be read: ", "this version does not know its stage or lane"))
    before = await store.redis.dump(name)
    assert await verifier.repair(found) == 0
    assert await store.redis.dump(name) == before


async def test_a_damaged_record_that_an_operator_deletes_is_repaired_away(store: Store, verifier: Verifier) -> None:
    record = await running(store)
    await DAMAGES["a string in its place"](store, record)
    await store.redis.delete(store.keys.operation(record.key))
    assert await verifier.repair((await verifier.verify()).faults)
    assert (await verifier.verify()).faults == []


@EVERY_DAMAGE
async def test_why_says_that_the_record_cannot_be_read(store: Store, settings: Settings, damage: Damage) -> None:
    record = await create(store)
    await damage(store, record)
    diagnoser = Diagnoser(store, settings)
    [key] = await diagnoser.find(record.id, None)
    with pytest.raises((UnreadableRecord, NotFound), match=record.key):
        await diagnoser.diagnose(key)


@EVERY_DAMAGE
async def test_the_overview_of_doctor_is_shown(store: Store, damage: Damage) -> None:
    record = await create(store)
    await damage(store, record)
    seconds, _ = await store.redis.time()
    assert (await look(store, seconds * SECOND)).lanes


async def test_keys_of_others_that_are_no_utf8_are_left_alone(store: Store, verifier: Verifier) -> None:
    await store.redis.set(b"\xff\xfe", "x")
    await create(store)
    assert (await verifier.verify()).faults == []
    await store.redis.delete(b"\xff\xfe")
