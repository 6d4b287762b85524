"""Create, claim and change by the scripts, against a real server."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping

import pytest
from redis.asyncio import Redis

from tests.support.clock import Clock
from tests.support.lists import read_page
from tests.support.records import CALL, claim, make_record
from tests.support.scheduling import take
from tracker.api.odata.filter import parse_filter
from tracker.domain import blame, lifecycle
from tracker.domain.change import Change, make_change
from tracker.domain.operation import DONE, OperationStatus, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import TRANSITIONS, Stage, Transition
from tracker.domain.type_registry import canonical
from tracker.errors import Conflict, Gone, IllegalTransition, NotFound, Refused
from tracker.listing.pager import Pager
from tracker.listing.query import ListQuery
from tracker.maintenance.sweeper import Sweeper
from tracker.store.script_constants import PROBE_AFTER
from tracker.store.store import CancelPending, Store

DAY = 86400.0


async def queued(store: Store, **fields: object) -> Record:
    record, new = await store.create(make_record(**fields))
    assert new
    return record


async def running(store: Store, **fields: object) -> Record:
    record = await queued(store, **fields)
    return await claim(store, record, "w1")


async def put(store: Store, stage: Stage) -> Record:  # noqa: PLR0911 - one for each stage
    """An operation in a stage, brought there by transitions."""
    match stage:
        case Stage.QUEUED:
            return await queued(store)
        case Stage.RUNNING:
            return await running(store)
        case Stage.PARKED:
            return await claim(store, await queued(store), types=("contoso.other",))
        case Stage.DELAYED:
            return (await store.create(make_record(), delay=3600))[0]
        case Stage.COMPLETED:
            return await store.apply(lifecycle.succeed(await running(store), DONE, {}))
        case Stage.FAILED:
            return await store.apply(lifecycle.cancel(await queued(store)))
        case Stage.TOMBSTONE:
            return await store.apply(lifecycle.hide(await put(store, Stage.COMPLETED)))


async def test_create_answers_the_stored_record_with_the_servers_time(store: Store) -> None:
    record = await queued(store, members={"a": [1, {"b": None}]}, client_context="")
    assert record.members == {"a": [1, {"b": None}]}
    assert record.client_context == ""
    assert record.created == record.changed > 1_700_000_000_000_000
    assert (record.status, record.stage, record.attempt) == (OperationStatus.NOT_STARTED, Stage.QUEUED, 0)
    assert await store.find("test", record.id) == record


async def test_the_same_id_and_body_again_is_the_stored_operation(store: Store) -> None:
    first = await queued(store, id="mine", digest="d")
    again, new = await store.create(make_record(id="mine", digest="d"))
    assert (again, new) == (first, False)


async def test_a_repeated_create_whose_answer_was_lost_makes_nothing_twice(store: Store, redis: Redis) -> None:
    record = make_record()
    first, _ = await store.create(record)
    again, new = await store.create(record)
    assert new
    assert again == first
    assert await redis.llen(store.keys.queue()) == 1


async def test_the_same_id_with_another_body_is_a_conflict(store: Store) -> None:
    await queued(store, id="mine", digest="d")
    with pytest.raises(Conflict):
        await store.create(make_record(id="mine", digest="e"))


async def test_the_same_id_in_two_tenants_is_two_operations(store: Store) -> None:
    one = await queued(store, id="mine", tenant="a")
    two = await queued(store, id="mine", tenant="b")
    assert one.key != two.key
    with pytest.raises(NotFound):
        await store.find("c", "mine")


async def test_fifty_identical_creates_at_once_make_one_operation(store: Store) -> None:
    answers = await asyncio.gather(*(store.create(make_record(id="mine", digest="d")) for _ in range(50)))
    assert sum(new for _, new in answers) == 1
    assert len({record.key for record, _ in answers}) == 1


async def test_a_claim_starts_the_next_attempt_and_says_running(store: Store, redis: Redis) -> None:
    record = await running(store)
    assert (record.status, record.attempt, record.worker) == (OperationStatus.RUNNING, 1, "w1")
    assert record.started
    assert await redis.zscore(store.keys.leases, record.key)
    assert not await redis.zscore(store.keys.ticketed("default", "test"), record.key)


async def test_a_claim_repeated_by_its_own_worker_is_the_same_attempt(store: Store) -> None:
    first = await running(store)
    again = await claim(store, first, "w1")
    assert again == first


async def test_a_second_worker_with_the_same_ticket_is_refused(store: Store) -> None:
    first = await running(store)
    with pytest.raises(Refused):
        await claim(store, first, "w2")


async def test_an_older_ticket_is_refused(store: Store) -> None:
    first = await running(store)
    await store.apply(lifecycle.hand_back(first))
    with pytest.raises(Refused):
        await claim(store, first, "w2")


async def test_a_worker_without_the_type_parks_the_operation(store: Store) -> None:
    record = await queued(store)
    parked = await claim(store, record, types=("contoso.other",))
    assert (parked.stage, parked.blocker, parked.attempt, parked.charged) == (Stage.PARKED, "type", 0, 0)


async def test_a_canceled_operation_is_never_claimed(store: Store) -> None:
    record = await queued(store)
    canceled = await store.apply(lifecycle.request_cancel(record, "not needed"))
    assert (canceled.status, canceled.canceled) == (OperationStatus.FAILED, True)
    assert canceled.result_info == ResultInfo(code=499, subcode=0, message="The operation was canceled: not needed")
    with pytest.raises(Refused):
        await claim(store, record, "w1")


async def test_a_worker_that_lost_its_lease_cannot_finish_the_next_attempt(store: Store, clock: Clock) -> None:
    first = await running(store)
    await clock.advance(11)
    await store.apply(blame.lose(first))
    await clock.advance(2)
    await Sweeper(store).sweep()
    [second] = await take(store, "w2", kinds={canonical(first.type): "coroutines"})
    with pytest.raises(Refused):
        await store.apply(lifecycle.succeed(first, DONE, {"late": True}))
    with pytest.raises(Refused):
        await store.apply(lifecycle.progress(first, 50, "late"))
    assert await store.beat([(first.key, first.attempt)]) == ["REFUSED"]
    done = await store.apply(lifecycle.succeed(second, DONE, {}))
    assert (done.attempt, done.charged, "late" in done.members) == (2, 1, False)


async def test_a_lease_that_was_renewed_in_time_is_not_lost(store: Store, clock: Clock) -> None:
    record = await running(store)
    await clock.advance(11)
    assert await store.beat([(record.key, record.attempt)]) == ["OK"]
    with pytest.raises(Refused):
        await store.apply(blame.lose(record))


async def test_a_cancel_that_comes_before_the_retry_is_not_forgotten(store: Store) -> None:
    seen = await running(store)
    await store.apply(lifecycle.request_cancel(seen, "enough"))
    assert await store.beat([(seen.key, seen.attempt)]) == ["CANCEL"]
    with pytest.raises(CancelPending):
        await store.apply(lifecycle.fail(seen, DONE, {}))
    with pytest.raises(CancelPending):
        await store.apply(lifecycle.hand_back(seen))
    ended = await store.apply(lifecycle.cancel(await store.find("test", seen.id)))
    assert (ended.canceled, ended.cancel_reason) == (True, "enough")


async def test_a_handler_that_finishes_before_the_cancel_wins(store: Store) -> None:
    seen = await running(store)
    await store.apply(lifecycle.request_cancel(seen))
    done = await store.apply(lifecycle.succeed(seen, DONE, {}))
    assert (done.status, done.canceled) == (OperationStatus.COMPLETED, False)


async def test_the_indexes_follow_the_status(store: Store) -> None:
    record = await running(store, client_context="x'y")
    await store.apply(lifecycle.succeed(record, DONE, {}))

    async def count(text: str) -> int:
        where = parse_filter(text)
        number = await Pager(store).count("test", CALL, where)
        assert len((await read_page(Pager(store), ListQuery(where))).records) == number
        return number

    assert [await count(f"status eq '{status}'") for status in OperationStatus] == [0, 0, 1, 0]
    context = "clientContext eq 'x''y'"
    assert [await count(f"{context}{more}") for more in ("", " and status eq 'Completed'")] == [1, 1]
    assert await count(f"{context} and status eq 'Failed'") == await count("clientContext eq 'other'") == 0


async def test_a_deleted_operation_is_gone_until_its_tombstone_ends(store: Store, clock: Clock, redis: Redis) -> None:
    record = await queued(store, policy=Policy(tombstone=60))
    await store.apply(lifecycle.hide(record))
    with pytest.raises(Gone):
        await store.find("test", record.id)
    with pytest.raises(Conflict):
        await store.create(make_record(id=record.id, digest=record.digest))
    await clock.advance(61)
    assert await store.expire(10) == (0, 1)
    with pytest.raises(NotFound):
        await store.find("test", record.id)
    assert not await redis.exists(store.keys.operation(record.key))


async def test_a_deleted_running_operation_lives_on_hidden_until_its_attempt_ends(store: Store) -> None:
    record = await running(store)
    await store.apply(lifecycle.hide(record))
    with pytest.raises(Gone):
        await store.find("test", record.id)
    assert await Pager(store).count("test", CALL) == 0
    assert await Pager(store).count("test", CALL, parse_filter("status eq 'Running'")) == 0
    assert await store.beat([(record.key, 1)]) == ["CANCEL"], "its worker learns that it should stop"
    ended = await store.apply(lifecycle.succeed(record, DONE, {"big": "x" * 1000}))
    assert (ended.stage, ended.status, ended.members) == (Stage.TOMBSTONE, OperationStatus.COMPLETED, {})
    assert await Pager(store).count("test", CALL, parse_filter("status eq 'Completed'")) == 0


async def test_retention_ends_in_a_tombstone_and_then_in_nothing(store: Store, clock: Clock, redis: Redis) -> None:
    sweeper = Sweeper(store)
    record = await running(store, client_context="c", policy=Policy(retention=DAY, tombstone=DAY))
    await store.apply(lifecycle.succeed(record, DONE, {}))
    assert 2 * DAY < await redis.ttl(store.keys.operation(record.key)) <= 3 * DAY, "the safety net"
    await clock.advance(DAY + 1)
    assert dataclasses.astuple(await sweeper.sweep()) == (0, 0, 0, 0, 1, 0, 1, 0)
    with pytest.raises(Gone):
        await store.find("test", record.id)
    await clock.advance(DAY + 1)
    assert dataclasses.astuple(await sweeper.sweep()) == (0, 0, 0, 0, 0, 1, 0, 0)
    left = {key async for key in redis.scan_iter("tracker:*") if not key.startswith(store.keys.ticket(""))}
    feed = store.keys.feed("test")  # has a lifetime of its own, by Redis's clock
    tenants = store.keys.known_tenants  # the tenants are known for some days
    kept = {store.keys.tickets, store.keys.clock, store.keys.sweeps, feed, tenants}
    assert left == kept, "nothing else outlives an operation unseen"


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("transition", [transition for transition in Transition if transition is not Transition.CREATE])
async def test_python_and_lua_agree_on_every_transition_from_every_stage(
    store: Store, clock: Clock, transition: Transition, stage: Stage
) -> None:
    before = await put(store, stage)
    await clock.advance(400 * DAY if transition in {Transition.EXPIRE, Transition.FORGET} else PROBE_AFTER + 1)
    sources, targets = TRANSITIONS[transition]
    try:
        await follow(store, transition, before)
        went = True
    except (Refused, IllegalTransition):
        went = False
    found = await store.read([before.key])
    assert went == (stage in sources)
    if (
        transition in {Transition.EXPIRE, Transition.FORGET}
        and not went
        and stage in {*TRANSITIONS[Transition.EXPIRE][0], Stage.TOMBSTONE}
    ):
        return  # the same script follows the other of these two transitions
    if not went:
        assert found == [before]
    elif targets:
        assert found[0].stage in targets
        assert found[0].revision == before.revision + 1
    else:
        assert not found


async def follow(store: Store, transition: Transition, record: Record) -> None:
    """Let a transition happen. Where Python decides, Lua is asked too: it must not write what Python would refuse."""
    match transition:
        case Transition.CLAIM:
            if (await claim(store, record, "w2")).worker != "w2":
                raise Refused("it is another's")
        case Transition.PARK:
            await claim(store, record, "w2", types=("contoso.other",))
        case Transition.RELEASE:
            await store.overdue(10)
            if (await store.read([record.key])) == [record]:
                raise Refused("nobody released it")
        case Transition.EXPIRE | Transition.FORGET:
            counts = await store.expire(10)
            if not counts[transition is Transition.FORGET]:
                raise Refused("nothing to do")
        case _:
            await store.apply(DECISIONS[transition](record))


DECISIONS: Mapping[Transition, Callable[[Record], Change]] = {
    Transition.SUCCEED: lambda record: lifecycle.succeed(record, DONE, {}),
    Transition.FAIL: lambda record: lifecycle.reject(record, DONE, {}),
    Transition.RETRY: lambda record: lifecycle.fail(record, DONE, {}),
    Transition.HAND_BACK: lifecycle.hand_back,
    Transition.LOSE: blame.lose,
    Transition.VANISH: lifecycle.vanish,
    Transition.MISS: lifecycle.miss,
    Transition.DUE: lifecycle.due,
    Transition.PROGRESS: lambda record: lifecycle.progress(record, 5, "x"),
    Transition.REQUEST_CANCEL: lambda record: make_change(Transition.REQUEST_CANCEL, record, Stage.RUNNING),
    Transition.CANCEL: lifecycle.cancel,
    Transition.PATCH: lambda record: lifecycle.patch(record, {"members": {"a": 1}, "client_context": "new"}),
    Transition.HIDE: lambda record: make_change(
        Transition.HIDE,
        record,
        Stage.RUNNING if record.stage is Stage.RUNNING else Stage.TOMBSTONE,
        hidden=True,
    ),
}


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.QUEUED])
async def test_a_change_based_on_an_old_version_of_the_record_is_refused(store: Store, stage: Stage) -> None:
    record = await put(store, stage)
    stale = record._replace(stage=Stage.QUEUED)
    with pytest.raises(Refused):
        await store.apply(lifecycle.cancel(stale))
    assert await store.read([record.key]) == [record]
