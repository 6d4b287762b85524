"""The verifier beside a service at work, and the order in which a serial queue is repaired."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent, take_snapshot
from tests.support.placements import EVERYTHING, Make, queued, repair_all, retried, running
from tests.support.scheduling import KINDS, chance, create, done, ids, now, pop, take
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Conflict, IllegalTransition, NotFound
from tracker.maintenance import verifier as verifier_module
from tracker.maintenance.sweeper import Sweeper
from tracker.maintenance.verifier import Verifier
from tracker.runtime.background import end
from tracker.store.store import LEASE, Store


@pytest.fixture
def verifier(store: Store, settings: Settings) -> Verifier:
    return Verifier(store, settings, recheck_after=0)


# --- lines


async def line_of(store: Store, record: Record) -> list[str]:
    return [str(key) for key in await store.redis.zrange(store.keys.serial_queue(record.tenant, record.call_id), 0, -1)]


@pytest.mark.parametrize("make", [queued, running, retried])
async def test_a_lost_serial_queue_is_made_again_in_its_order(store: Store, verifier: Verifier, make: Make) -> None:
    head = await make(store)
    others = [await create(store, "all", **EVERYTHING) for _ in range(4)]
    await store.redis.delete(store.keys.serial_queue(head.tenant, head.call_id))
    await repair_all(store, verifier, head)
    assert await line_of(store, head) == [head.key, *(record.key for record in others)]


async def test_a_running_operation_is_put_before_the_waiting_ones_and_no_other_starts(
    store: Store, verifier: Verifier
) -> None:
    head = await running(store)
    following = await create(store, "all", **EVERYTHING)
    line = store.keys.serial_queue(head.tenant, head.call_id)
    await store.redis.zincrby(line, 10_000_000, head.key)
    assert {fault.what for fault in (await verifier.verify()).faults} == {
        "running, but not the first in this serial queue",
        "parked to wait in this serial queue, but the first in it",
    }
    await repair_all(store, verifier, head)
    assert await line_of(store, head) == [head.key, following.key]
    assert await take(store) == [], "one at a time"


async def test_a_waiting_operation_is_never_put_before_one_that_may_begin(store: Store, verifier: Verifier) -> None:
    first, second, third = [await create(store, "all", **EVERYTHING) for _ in range(3)]
    line = store.keys.serial_queue(first.tenant, first.call_id)
    await done(store, *await take(store))
    await take(store)
    await store.redis.zadd(line, {third.key: 1})  # now before the second, which runs
    await repair_all(store, verifier, first)
    assert await line_of(store, first) == [second.key, third.key]
    assert (await now(store, third)).stage is Stage.PARKED


async def test_an_operation_lost_from_a_serial_queue_comes_after_the_running_one_even_if_it_is_older(
    store: Store, verifier: Verifier
) -> None:
    head = await running(store)
    waiting = await create(store, "all", **EVERYTHING)
    line = store.keys.serial_queue(head.tenant, head.call_id)
    await store.redis.zadd(line, {head.key: 2**52})
    await store.redis.zrem(line, waiting.key)
    assert await verifier.repair((await verifier.verify()).faults) == 1
    assert await line_of(store, head) == [head.key, waiting.key]
    assert await take(store) == [], "one at a time, from the first repair on"
    await assert_consistent(store)


async def test_two_operations_that_have_begun_in_one_serial_queue_both_go_on(store: Store, verifier: Verifier) -> None:
    head = await running(store)
    second = await create(store, "all", **EVERYTHING)
    await store.redis.zrem(store.keys.serial_queue(head.tenant, head.call_id), head.key)
    await verifier.repair([fault for fault in (await verifier.verify()).faults if fault.key == second.key])
    assert ids(await take(store)) == [second.id], "somebody repaired the wrong one first"
    await verifier.repair((await verifier.verify()).faults)
    assert (await verifier.verify()).faults == [], "nothing that could be put right"
    assert await line_of(store, head) == [second.key, head.key]
    await done(store, await now(store, head), await now(store, second))
    await assert_consistent(store)


class Bustle:
    """Operations that come, wait, run, fail, are canceled and deleted, all at once, until it is left."""

    KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
        ("plain", {}),
        ("serial", {"serial": True}),
        ("capped", {"concurrency": 2}),
        ("rated", {"rate": 50, "per": 1.0}),
        ("plain", {"delay": 0.01}),
        ("absent", {"start_within": 0.2}),
        ("plain", {"priority": "high"}),
    )

    def __init__(self, store: Store) -> None:
        self.store, self.chance, self.sweeper = store, chance(), Sweeper(store)
        self.keys: list[str] = []
        self.moves = 0

    async def __aenter__(self) -> Self:
        steps = (self.create, self.work, self.work_as_stock, self.meddle, self.sweep)
        self._tasks = [asyncio.create_task(self._forever(step)) for step in steps]
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self._tasks)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            with suppress(Conflict, NotFound, IllegalTransition):
                await step()
            await asyncio.sleep(0)

    async def create(self) -> None:
        kind, options = self.chance.choice(self.KINDS)
        record = await create(self.store, kind, call_id=f"call-{self.chance.randrange(5)}", attempts=9, **options)
        self.keys.append(record.key)
        self.moves += 1

    async def work(self) -> None:
        for record in await take(self.store, f"w{self.chance.randrange(3)}", coroutines=self.chance.randrange(1, 9)):
            await self.finish(record)

    async def work_as_stock(self) -> None:
        popped = await pop(self.store)
        for record in popped.started if popped else ():
            await self.finish(record)

    async def finish(self, record: Record) -> None:
        match self.chance.randrange(5):
            case 0:
                change = lifecycle.hand_back(record)
            case 1:
                change = lifecycle.fail(record, DONE, {}, after=self.chance.choice([0.0, 0.01]))
            case _:
                change = lifecycle.succeed(record, DONE, {})
        await self.store.apply(change)
        self.moves += 1

    async def meddle(self) -> None:
        for record in await self.store.read(self.chance.sample(self.keys, min(len(self.keys), 1))):
            hides = self.chance.random() < 0.5
            await self.store.apply(lifecycle.hide(record) if hides else lifecycle.request_cancel(record))

    async def sweep(self) -> None:
        await self.sweeper.sweep()


async def test_operations_that_only_move_are_not_reported_as_faults(store: Store, settings: Settings) -> None:
    verifier = Verifier(store, settings, recheck_after=0.1)
    async with Bustle(store) as bustle:
        while bustle.moves < 1200:
            before = bustle.moves
            verdict = await verifier.verify()
            print(f"{verdict.operations} operations, {verdict.members} members, {bustle.moves} moves")
            assert verdict.faults == []
            assert bustle.moves > before


async def test_faults_beside_moving_operations_are_named_alone_and_repaired(store: Store, settings: Settings) -> None:
    verifier = Verifier(store, settings, recheck_after=0.1)
    still = [await create(store, "plain", delay=3600, call_id="still") for _ in range(3)]
    async with Bustle(store):
        await store.redis.zrem(store.keys.due, still[0].key)
        await store.redis.zadd(store.keys.leases, {still[1].key: 2**52})
        await store.redis.delete(store.keys.operation(still[2].key))
        faults = (await verifier.verify()).faults
        assert {(fault.key, fault.where) for fault in faults} >= {
            (still[0].key, store.keys.due),
            (still[1].key, store.keys.leases),
            (still[2].key, store.keys.due),
        }
        assert {fault.key for fault in faults} == {record.key for record in still}
        assert await verifier.repair(faults) == 3
        assert (await verifier.verify()).faults == []
    assert (await now(store, still[1])) == still[1]


async def test_a_fault_that_is_corrected_before_the_second_look_is_none(
    store: Store, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await running(store)
    await store.redis.zrem(store.keys.leases, record.key)
    assert len((await verifier.verify()).faults) == 1

    async def beat(_: float) -> None:
        await store.beat([(record.key, record.attempt)])

    monkeypatch.setattr("tracker.maintenance.verifier.asyncio.sleep", beat)
    assert (await verifier.verify()).faults == []


async def test_a_ticket_that_rqs_own_worker_has_popped_is_no_fault(
    store: Store, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await queued(store)
    job = await store.redis.lpop(store.keys.queue())
    [fault] = (await verifier.verify()).faults
    assert (fault.where, fault.what) == (
        store.keys.queue(),
        f"queued, but its ticket {record.ticket} is not in this queue",
    )

    async def claim(_: float) -> None:
        await store.claim_ticket(str(job), worker="stock", kinds=KINDS)

    monkeypatch.setattr("tracker.maintenance.verifier.asyncio.sleep", claim)
    assert (await verifier.verify()).faults == []


async def test_what_moves_between_finding_and_repair_is_left_alone(store: Store, verifier: Verifier) -> None:
    record = await running(store)
    await store.redis.zrem(store.keys.leases, record.key)
    faults = (await verifier.verify()).faults
    await done(store, record)
    before = await take_snapshot(store)
    assert await verifier.repair(faults) == 0
    assert (await take_snapshot(store)).zsets == before.zsets


async def test_what_moves_just_before_its_repair_is_written_is_left_alone(
    store: Store, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await running(store)
    await store.redis.zrem(store.keys.leases, record.key)
    faults = (await verifier.verify()).faults
    repair = verifier._repair

    async def repair_too_late(**named: Any) -> Any:
        await done(store, record)
        return await repair(**named)

    monkeypatch.setattr(verifier, "_repair", repair_too_late)
    assert await verifier.repair(faults) == 0
    assert await store.redis.zscore(store.keys.leases, record.key) is None
    await assert_consistent(store)


async def test_a_lease_that_was_lost_gives_a_living_worker_time_to_renew_it_and_a_dead_one_none_for_long(
    store: Store, verifier: Verifier, clock: Clock
) -> None:
    record = await running(store)
    await store.redis.zrem(store.keys.leases, record.key)
    await verifier.repair((await verifier.verify()).faults)
    await Sweeper(store).sweep()
    assert await store.beat([(record.key, record.attempt)]) == ["OK"]
    await clock.advance(LEASE + 1)
    await Sweeper(store).sweep()
    await clock.advance(2)
    await Sweeper(store).sweep()
    assert [again.id for again in await take(store)] == [record.id]


async def test_the_walk_tells_how_far_it_is(store: Store, verifier: Verifier) -> None:
    for _ in range(50):
        await create(store)
    told: list[tuple[int, int]] = []
    await verifier.verify(lambda done, size: told.append((done, size)))
    size = await store.redis.dbsize()
    assert told[-1] == (size, size)
    assert told == sorted(told)


async def test_more_tickets_than_one_step_reads_are_all_found(
    store: Store, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_module, "TICKETS_STEP", 7)
    monkeypatch.setattr(verifier_module, "OPERATIONS_STEP", 5)
    monkeypatch.setattr(verifier_module, "KEYS_STEP", 3)
    monkeypatch.setattr(verifier_module, "MEMBERS_STEP", 2)
    made = [await create(store, call_id="big") for _ in range(300)]
    await store.redis.lrem(store.keys.queue(), 0, f"{made[150].key}-{made[150].ticket}")
    await store.redis.zadd(store.keys.due, {made[290].key: 1})
    await store.redis.config_resetstat()
    verdict = await verifier.verify()
    searches = (await store.redis.info("commandstats"))["cmdstat_lpos"]["calls"]
    assert searches == 4, "only what looks wrong is searched for on the queues, twice each"
    assert [fault.id for fault in verdict.faults if fault.where == store.keys.due] == [made[290].id]
    assert [fault.id for fault in verdict.faults if fault.where == store.keys.queue()] == [made[150].id]
    assert (len(verdict.faults), verdict.operations) == (2, 300)
