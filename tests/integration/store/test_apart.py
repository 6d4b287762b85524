"""Operations that run apart from others: after deaths whose cause is not known, and by their type."""

from collections.abc import Callable

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import KINDS, claims, create, done, ids, now, pop, stages, take
from tracker.domain import blame, lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE, LOST, UNPROVEN, WORKERS_LOST
from tracker.domain.policy import Policy
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.store.script_constants import (
    HISTORY_LIMIT,
    LONE_WORKER_FOR,
    LONE_WORKER_REST,
    LONE_WORKER_TURN,
    PROBE_AFTER,
    REPORTED_WITHIN,
)
from tracker.store.store import LEASE, Store
from tracker.store.worker_registry import WorkerRegistry

DEATHS: dict[str, Callable[[Record], Change]] = {
    "its process died together with others": lambda record: blame.die(record, LOST, proven=False),
    "its worker lost all processes": blame.lose_hosts,
    "its lease ran out": blame.lose,
}


async def lose(store: Store, clock: Clock, record: Record, how: Callable[[Record], Change] = blame.lose) -> Record:
    """End an attempt by a death, and wait until the operation is queued again."""
    await clock.advance(LEASE + 1)
    record = await store.apply(how(record))
    await clock.advance(2.0**record.suspected)
    await Sweeper(store).sweep()
    return record


async def suspected(store: Store, clock: Clock, *, workers: int = 1) -> Record:
    """An operation that has lost so many workers, and is queued again."""
    record = await create(store)
    for _ in range(workers):
        [record] = await take(store, idle=True)
        record = await lose(store, clock, record)
    return await now(store, record)


async def suspects(store: Store, clock: Clock, count: int) -> list[Record]:
    """So many operations that have lost a worker together, and are queued again."""
    for _ in range(count):
        await create(store)
    records = await take(store)
    await clock.advance(LEASE + 1)
    for record in records:
        await store.apply(blame.lose(record))
    await clock.advance(2)
    await Sweeper(store).sweep()
    return [await now(store, record) for record in records]


@pytest.mark.parametrize("how", DEATHS)
async def test_a_death_whose_cause_is_not_known_charges_nobody_and_the_operation_runs_apart(
    store: Store, clock: Clock, how: str
) -> None:
    await create(store)
    [record] = await take(store)
    await clock.advance(LEASE + 1)
    dead = await store.apply(DEATHS[how](record))
    assert (dead.stage, dead.charged, dead.suspected, dead.apart) == (Stage.DELAYED, 0, 1, Apart.PROCESS)
    [entry] = await store.history(record.key)
    assert entry["uncharged"] is True
    assert "not proven" in entry["message"]
    await clock.advance(2)
    await Sweeper(store).sweep()
    assert await take(store, apart=0) == []
    [again] = await take(store, coroutines=0, functions=0)
    assert (again.key, again.attempt) == (record.key, 2)
    await assert_consistent(store)


def test_runs_again_after_1_2_4_seconds_and_so_on() -> None:
    record = make_running()
    delays = [blame.lose(record._replace(suspected=count)).delay for count in range(4)]
    assert delays == [1, 2, 4, 8]


def make_running(**fields: object) -> Record:
    base = Record("0" * 32, "t", "call", "id", "#test.plain", "", Policy(), stage=Stage.RUNNING, attempt=1, rq=True)
    return base._replace(**fields)  # type: ignore[arg-type]  # any field of a record


def test_the_tenth_death_that_charges_nobody_ends_the_operation() -> None:
    ninth, tenth = (blame.lose(make_running(suspected=count, alone=0)) for count in (8, 9))
    assert ninth.stage is Stage.DELAYED
    assert (tenth.stage, tenth.fields["result_info"]) == (Stage.FAILED, WORKERS_LOST)
    assert "charged" not in tenth.fields
    in_host = blame.die(make_running(suspected=9), LOST, proven=False)
    assert (in_host.stage, in_host.fields["result_info"].subcode) == (Stage.FAILED, 3)


def test_a_death_alone_is_charged_and_the_retry_stays_apart() -> None:
    record = make_running(policy=Policy(attempts=2))
    first = blame.die(record, LOST, proven=True)
    assert (first.stage, first.fields["charged"], first.fields["apart"]) == (Stage.DELAYED, 1, Apart.PROCESS)
    assert "suspected" not in first.fields
    last = blame.die(record._replace(charged=1, apart=Apart.WORKER), LOST, proven=True)
    assert (last.stage, last.fields["charged"], last.fields["apart"]) == (Stage.FAILED, 2, Apart.WORKER)


@pytest.mark.parametrize(
    "change",
    [
        blame.lose,
        blame.lose_hosts,
        lambda record: blame.die(record, LOST, proven=True),
        lambda record: blame.die(record, LOST, proven=False),
    ],
)
def test_a_type_that_must_not_run_again_unproven_fails_at_the_first_death(change: Callable[[Record], Change]) -> None:
    ended = change(make_running(policy=Policy(rerun_unproven=False)))
    assert (ended.stage, ended.fields["result_info"]) == (Stage.FAILED, UNPROVEN)


async def test_what_runs_apart_and_finds_no_room_is_parked_and_stands_in_front_of_nobody(
    store: Store, clock: Clock
) -> None:
    first, second = await suspects(store, clock, 2)
    innocent = await create(store)
    reply = await claims(store, apart=1)
    assert ids(reply.started) == [first.id, innocent.id]
    assert [(parked.id, parked.blocker) for parked in reply.parked] == [(second.id, "apart")]
    await assert_consistent(store)
    assert await take(store, apart=0) == []
    [released] = await take(store, coroutines=0, functions=0, apart=1)
    assert (released.id, released.blocker) == (second.id, "")
    await assert_consistent(store)


async def test_what_is_parked_to_run_apart_starts_before_what_stands_on_the_list(store: Store, clock: Clock) -> None:
    first, *others = await suspects(store, clock, 4)
    assert await take(store, apart=0) == []
    isolated = await create(store, "isolated")
    plain = await create(store)
    assert ids(await take(store, apart=1)) == [first.id, plain.id]
    assert await stages(store, [*others, isolated]) == [Stage.PARKED] * 4
    assert set(ids(await take(store, apart=4))) == {*ids(others), isolated.id}
    await assert_consistent(store)


async def test_a_type_that_runs_apart_is_claimed_only_for_processes_of_its_own(store: Store) -> None:
    isolated = [await create(store, "isolated") for _ in range(3)]
    assert ids(await take(store, apart=2)) == ids(isolated[:2])
    assert (await now(store, isolated[2])).blocker == "apart"
    assert ids(await take(store, apart=1)) == [isolated[2].id]
    await assert_consistent(store)


async def test_a_parked_operation_is_claimed_only_by_a_worker_with_its_type(store: Store) -> None:
    isolated = await create(store, "isolated")
    assert await take(store, apart=0) == []
    others = {name: kind for name, kind in KINDS.items() if name != "test.isolated"}
    assert await take(store, kinds=others) == []
    assert ids(await take(store)) == [isolated.id]


async def test_a_claim_whose_reply_was_lost_returns_what_runs_apart_again(store: Store) -> None:
    isolated = await create(store, "isolated")
    await take(store, apart=0)
    assert ids(await take(store, batch="same")) == [isolated.id]
    assert ids(await take(store, batch="same")) == [isolated.id]


async def test_from_two_lost_workers_on_it_runs_on_a_worker_that_runs_nothing_else(store: Store, clock: Clock) -> None:
    record = await suspected(store, clock, workers=2)
    assert record.apart is Apart.WORKER
    innocent = await create(store)
    assert ids(await take(store)) == [innocent.id], "the suspect is parked, and is in front of nobody"
    later = await create(store)
    waiting = await claims(store)
    assert (waiting.alone, list(waiting.started)) == (True, []), "this worker takes no more until it is idle"
    assert ids(await take(store, "w2")) == [later.id], "others go on"
    reply = await claims(store, idle=True)
    assert (reply.alone, ids(reply.started)) == (True, [record.id])
    assert reply.started[0].alone == reply.started[0].attempt
    await assert_consistent(store)


async def test_only_one_worker_at_a_time_waits_until_it_is_idle_and_one_that_died_for_some_seconds_only(
    store: Store, clock: Clock
) -> None:
    await suspected(store, clock, workers=2)
    await take(store, "w0")
    assert (await claims(store, "w1", apart=0)).alone
    assert not (await claims(store, "w2")).alone
    assert await store.redis.ttl(store.keys.lone_workers) > 0
    await clock.advance(LONE_WORKER_FOR + 1)
    assert (await claims(store, "w2")).alone


async def test_a_worker_that_is_idle_already_need_not_wait_for_the_one_that_is_not(store: Store, clock: Clock) -> None:
    record = await suspected(store, clock, workers=2)
    await take(store, "w0")
    assert (await claims(store, "w1")).alone
    assert ids(await take(store, "w2", idle=True)) == [record.id]
    assert not (await claims(store, "w1")).alone


async def test_a_worker_that_waits_until_it_is_idle_goes_on_waiting_for_longer_than_a_probe(
    store: Store, clock: Clock
) -> None:
    await suspected(store, clock, workers=2)
    await take(store, "w0")
    for _ in range(20):
        assert (await claims(store, "w1")).alone
        await clock.advance(PROBE_AFTER / 10)
        await Sweeper(store).sweep()


async def test_workers_that_do_not_agree_on_a_type_start_its_operations_each_in_its_own_way(store: Store) -> None:
    first, second = [await create(store, "isolated") for _ in range(2)]
    assert await take(store, "w1", apart=0) == []
    together = {**KINDS, "test.isolated": "coroutines"}
    assert await take(store, "w2", kinds=together, coroutines=0, apart=5) == [], "it has no room of this kind"
    await assert_consistent(store)
    assert ids(await take(store, "w2", kinds=together, coroutines=1, apart=0)) == [first.id]
    assert ids(await take(store, "w1", apart=1)) == [second.id]
    await assert_consistent(store)


async def test_a_suspect_behind_operations_without_room_is_found(store: Store) -> None:
    others = [await create(store) for _ in range(3)]
    assert await take(store, "w1", kinds={**KINDS, "test.plain": "apart"}, apart=0) == []
    suspect = await create(store)
    await store.redis.hset(store.keys.operation(suspect.key), "apart", "process")
    assert await take(store, "w2", coroutines=0, functions=1, apart=0) == []
    assert ids(await take(store, "w2", coroutines=0, apart=2)) == [suspect.id]
    assert await stages(store, others) == [Stage.PARKED] * 3
    await assert_consistent(store)


async def test_an_operation_that_died_under_a_stock_worker_runs_apart_elsewhere(store: Store, clock: Clock) -> None:
    await create(store)
    got = await pop(store)
    assert got is not None
    lost = await lose(store, clock, got.started[0])
    assert (lost.charged, lost.apart) == (1, Apart.PROCESS)


async def test_a_worker_that_is_lost_with_one_operation_alone_charges_it(store: Store, clock: Clock) -> None:
    record = await suspected(store, clock, workers=2)
    await take(store, idle=True)
    [alone] = await take(store, idle=True)
    charged = await lose(store, clock, alone)
    assert (charged.id, charged.charged, charged.suspected) == (record.id, 1, 2)
    assert (charged.stage, charged.apart) == (Stage.DELAYED, Apart.WORKER)


async def lone_suspects(store: Store, clock: Clock, count: int) -> list[Record]:
    """Operations that wait for a worker that runs nothing else."""
    records = [await create(store) for _ in range(count)]
    for record in records:
        await store.redis.hset(store.keys.operation(record.key), "apart", "worker")
    await clock.advance(1)
    await take(store, "w0")
    assert await stages(store, records) == [Stage.PARKED] * count
    return records


async def live_workers(store: Store, count: int) -> None:
    """Register so many workers."""
    for number in range(count):
        await WorkerRegistry(store).announce(f"w{number + 1}", {})


async def begin_alone(store: Store, worker: str) -> list[Record]:
    """The operation that an idle worker begins alone, if it may. The worker has no room for what is queued."""
    return [record for record in await take(store, worker, idle=True, coroutines=0) if record.is_alone]


async def test_a_worker_runs_short_operations_alone_one_after_another(store: Store, clock: Clock) -> None:
    await lone_suspects(store, clock, 4)
    await create(store)
    for _ in range(3):
        [alone] = await take(store, "w1", idle=True)
        assert alone.is_alone
        assert not await begin_alone(store, "w2"), "one of two workers at a time"
        await clock.advance(LONE_WORKER_TURN / 2 - 1)
        await done(store, alone)
    assert not await begin_alone(store, "w1"), "its turn is over"


@pytest.mark.parametrize("seconds", [LONE_WORKER_TURN, 3 * LONE_WORKER_TURN, 10 * LONE_WORKER_REST])
async def test_while_others_wait_no_worker_runs_one_alone_for_as_long_as_the_last_turn_took(
    store: Store, clock: Clock, seconds: float
) -> None:
    await lone_suspects(store, clock, 4)
    await create(store)
    [alone] = await take(store, "w1", idle=True)
    await clock.advance(seconds)
    await done(store, alone)
    await clock.advance(min(seconds, LONE_WORKER_REST) - 1)
    for worker in ("w1", "w2"):
        assert not await begin_alone(store, worker)
    await clock.advance(2)
    assert await begin_alone(store, "w2")


async def test_operations_that_wait_for_a_process_of_their_own_are_others_that_wait(store: Store, clock: Clock) -> None:
    await lone_suspects(store, clock, 2)
    await create(store, "isolated")
    await take(store, "w3", apart=0)
    [alone] = await begin_alone(store, "w1")
    await clock.advance(LONE_WORKER_TURN + 1)
    await done(store, alone)
    assert not await begin_alone(store, "w2")


@pytest.mark.parametrize(("alive", "most"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)])
async def test_while_others_wait_half_of_the_workers_at_a_time_run_an_operation_alone(
    store: Store, clock: Clock, alive: int, most: int
) -> None:
    await lone_suspects(store, clock, 6)
    await create(store)
    await live_workers(store, alive)
    begun = [bool(await begin_alone(store, f"w{number}")) for number in range(1, 7)]
    assert begun == [number <= most for number in range(1, 7)]


@pytest.mark.parametrize(("alive", "most"), [(0, 1), (1, 1), (2, 1), (3, 2), (6, 5)])
async def test_while_no_others_wait_all_workers_but_one_run_an_operation_alone(
    store: Store, clock: Clock, alive: int, most: int
) -> None:
    await lone_suspects(store, clock, 6)
    await live_workers(store, alive)
    begun = [bool(await begin_alone(store, f"w{number}")) for number in range(1, 7)]
    assert begun == [number <= most for number in range(1, 7)]


async def test_workers_that_are_lost_do_not_count(store: Store, clock: Clock) -> None:
    await lone_suspects(store, clock, 2)
    await create(store)
    await live_workers(store, 4)
    for worker in ("w3", "w4"):
        await store.redis.zincrby(store.keys.workers, -REPORTED_WITHIN - 1, worker)
    assert await begin_alone(store, "w1")
    assert not await begin_alone(store, "w2")


@pytest.mark.parametrize("note", ["", "runs", "runs 5", "dreams 5", "waits", "waits soon", "runs 1 0123456789abcdef"])
async def test_a_note_that_cannot_be_read_stops_no_claim(store: Store, clock: Clock, note: str) -> None:
    await lone_suspects(store, clock, 1)
    await store.redis.hset(store.keys.lone_workers, mapping={"w1": note, "w2": note})
    assert await begin_alone(store, "w1")
    assert not await store.redis.hexists(store.keys.lone_workers, "w2")


async def test_an_operation_with_a_damaged_record_stops_no_other_worker(store: Store, clock: Clock) -> None:
    await lone_suspects(store, clock, 2)
    [alone] = await take(store, "w1", idle=True)
    await store.redis.delete(store.keys.operation(alone.key))
    await store.redis.set(store.keys.operation(alone.key), "damaged")
    assert await begin_alone(store, "w2")
    await store.redis.delete(store.keys.operation(alone.key))


async def test_one_worker_at_a_time_runs_one_alone_and_the_next_follows_at_once_when_nothing_is_queued(
    store: Store, clock: Clock
) -> None:
    records = await lone_suspects(store, clock, 3)
    began: list[Record] = []
    for _ in records:
        [alone] = await take(store, "w1", idle=True)
        assert await take(store, "w2", idle=True) == [], "it is there for what comes"
        await done(store, alone)
        began.append(alone)
    assert set(ids(began)) == set(ids(records))
    await assert_consistent(store)


async def test_what_waits_for_a_lone_worker_runs_in_the_order_of_creation_whatever_its_type(
    store: Store, clock: Clock
) -> None:
    created = [await create(store, name) for name in ("plain", "function", "plain")]
    await clock.advance(1)
    for record in created:
        await store.redis.hset(store.keys.operation(record.key), "apart", "worker")
    await take(store, "w0")
    began: list[Record] = []
    for _ in created:
        [alone] = await take(store, "w1", idle=True)
        await done(store, alone)
        began.append(alone)
    assert ids(began) == ids(created)


async def test_an_operation_whose_worker_died_while_it_ran_alone_keeps_no_other_from_that(
    store: Store, clock: Clock
) -> None:
    _, other = await lone_suspects(store, clock, 2)
    await create(store)
    [alone] = await take(store, "w1", idle=True)
    assert not await begin_alone(store, "w2")
    await lose(store, clock, alone)
    await clock.advance(LONE_WORKER_REST)
    [next_one] = await begin_alone(store, "w2")
    assert next_one.id == other.id


async def test_a_suspect_that_waits_for_a_lone_worker_can_be_canceled(store: Store, clock: Clock) -> None:
    record = await suspected(store, clock, workers=2)
    await take(store)
    assert (await store.apply(lifecycle.request_cancel(await now(store, record)))).canceled
    await assert_consistent(store)
    assert not (await claims(store)).alone


async def test_a_suspect_may_run_under_a_stock_worker_each_process_of_which_runs_one_operation(
    store: Store, clock: Clock
) -> None:
    for workers in (1, 2):
        record = await suspected(store, clock, workers=workers)
        got = await pop(store)
        assert got is not None
        assert ids(got.started) == [record.id]
        lost = await lose(store, clock, got.started[0])
        assert (lost.charged, lost.suspected) == (1, workers), "its process ran nothing else"
        await store.apply(lifecycle.request_cancel(await now(store, lost)))


async def test_what_is_parked_to_run_apart_is_offered_to_stock_workers_now_and_then(store: Store, clock: Clock) -> None:
    isolated = await create(store, "isolated")
    await take(store, apart=0)
    await clock.advance(PROBE_AFTER + 1)
    await Sweeper(store).sweep()
    got = await pop(store, kinds={"test.isolated": "functions"})
    assert got is not None
    assert ids(got.started) == [isolated.id]
    await assert_consistent(store)


async def test_a_capped_type_keeps_its_cap_while_a_suspect_waits(store: Store, clock: Clock) -> None:
    first = await create(store, "capped", concurrency=1)
    second = await create(store, "capped", concurrency=1)
    [record] = await take(store)
    await lose(store, clock, record)
    assert ids(await take(store, apart=0)) == [second.id], "a suspect without room does not hold its slot"
    assert await take(store) == []
    await assert_consistent(store)
    await done(store, await now(store, second))
    await Sweeper(store).sweep()
    assert ids(await take(store)) == [first.id]
    await assert_consistent(store)


async def test_a_serial_suspect_stays_the_first_of_its_call(store: Store, clock: Clock) -> None:
    first, second = [await create(store, "serial", serial=True) for _ in range(2)]
    [record] = await take(store)
    await lose(store, clock, record)
    assert await take(store, apart=0) == []
    assert [(await now(store, each)).blocker for each in (first, second)] == ["apart", "serial"]
    [again] = await take(store)
    assert again.id == first.id
    await done(store, again)
    assert ids(await take(store)) == [second.id]
    await assert_consistent(store)


async def test_the_history_keeps_charged_attempts_before_others(store: Store, clock: Clock) -> None:
    record = await create(store, attempts=HISTORY_LIMIT + 5, backoff_first=0.0)
    charged = 0
    for number in range(2 * HISTORY_LIMIT):
        [record] = await take(store, idle=True)
        fails = number % 4 == 0
        charged += fails
        await store.apply(lifecycle.fail(record, DONE, {}, after=0.0) if fails else lifecycle.hand_back(record))
        await clock.advance(1)
        await Sweeper(store).sweep()
    entries = await store.history(record.key)
    assert len(entries) == HISTORY_LIMIT
    assert sum("uncharged" not in entry for entry in entries) == charged
    assert [entry["attempt"] for entry in entries] == sorted(entry["attempt"] for entry in entries)
    assert entries[-1]["attempt"] == 2 * HISTORY_LIMIT
