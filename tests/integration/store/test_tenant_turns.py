"""Claims from lanes in which several tenants have tickets: whose ticket is next, and the stale entries that stay."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.pubsub import subscribed
from tests.support.scheduling import KINDS, chance, claims, commands, create, done, ids, now, pop, stages, take
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.maintenance.verifier import Verifier
from tracker.store.claim_shares import ClaimShares
from tracker.store.keys import owner_digest
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_constants import JUDGE_LIMIT, TENANT_KNOWN_FOR, WINDOW
from tracker.store.store import VANISHED_AFTER, Store


async def flood(store: Store, tenant: str, count: int, kind: str = "plain", **options: Any) -> list[Record]:
    return [await create(store, kind, tenant=tenant, **options) for _ in range(count)]


async def listed(store: Store) -> list[str]:
    jobs: Any = await store.redis.lrange(store.keys.queue(), 0, -1)
    return [str(job) for job in jobs]


def job_of(record: Record) -> str:
    return f"{record.key}-{record.ticket}"


def tenants_of(records: Sequence[Record]) -> Counter[str]:
    return Counter(record.tenant for record in records)


async def turn_of(store: Store, tenant: str) -> float | None:
    turn: float | None = await store.redis.zscore(store.keys.turns("default"), owner_digest(tenant))
    return turn


# --- order


async def test_the_first_operation_of_a_newcomer_is_the_next_that_is_claimed(store: Store) -> None:
    flooding = await flood(store, "flood", 300)
    assert ids(await take(store, coroutines=5)) == ids(flooding[:5])
    newcomer = await create(store, tenant="new")
    assert ids(await take(store, coroutines=1)) == [newcomer.id]
    assert ids(await take(store, coroutines=2)) == ids(flooding[5:7])
    await assert_consistent(store)


@pytest.mark.parametrize("tenants", [2, 10, 100])
async def test_each_of_many_tenants_gets_the_same_however_much_one_of_them_queues(store: Store, tenants: int) -> None:
    flooding = await flood(store, "flood", 150)
    others = [await flood(store, f"t{number}", 3) for number in range(tenants - 1)]
    started = [record for _ in range(tenants) for record in await take(store, coroutines=3, deep=False)]
    assert tenants_of(started) == dict.fromkeys(["flood", *(f"t{number}" for number in range(tenants - 1))], 3)
    for queued in (flooding, *others):
        own = [record.id for record in started if record.tenant == queued[0].tenant]
        assert own == ids(queued[:3]), "the tickets of one tenant keep their order"
    await assert_consistent(store)


async def test_a_tenant_with_more_weight_has_more_turns(store: Store) -> None:
    await flood(store, "heavy", 60)
    await flood(store, "light", 60)
    shares = ClaimShares({"heavy": 3})
    started = [record for _ in range(10) for record in await take(store, coroutines=4, deep=False, shares=shares)]
    assert tenants_of(started) == {"heavy": 30, "light": 10}


async def test_a_tenant_that_comes_with_one_ticket_at_a_time_keeps_nobody_from_a_turn(store: Store) -> None:
    """Each time it has no ticket left when its only one is claimed, and comes again before the next claim."""
    await flood(store, "flood", 50)
    started = []
    for _ in range(20):
        await create(store, tenant="often")
        started += await take(store, coroutines=1, deep=False)
    assert tenants_of(started) == {"flood": 10, "often": 10}


async def test_a_tenant_that_could_not_start_anything_has_no_claim_to_more_afterwards(store: Store) -> None:
    await flood(store, "functions", 40, "function")
    await flood(store, "plain", 60)
    for _ in range(10):
        assert tenants_of(await take(store, coroutines=3, functions=0)) == {"plain": 3}
    for _ in range(5):
        assert tenants_of(await take(store, coroutines=1, functions=1)) == {"functions": 1, "plain": 1}


async def test_operations_that_are_parked_use_the_turns_of_their_tenant(store: Store) -> None:
    await flood(store, "flood", 100, "serial")
    newcomer = await create(store, tenant="new")
    without = {name: kind for name, kind in KINDS.items() if name != "test.serial"}
    reply = await claims(store, coroutines=1, functions=0, apart=0, kinds=without)
    assert ids(reply.started) == [newcomer.id]
    assert len(reply.parked) <= 2
    await assert_consistent(store)


async def test_each_lane_has_turns_of_its_own(store: Store) -> None:
    for tenant in ("a", "b"):
        for lane in ("high", "default", "low"):
            await flood(store, tenant, 20, priority=lane)
    started: list[Record] = []
    while len(started) < 60:
        started += await take(store, coroutines=6, turn=len(started))
    served = Counter((record.tenant, record.policy.priority) for record in started)
    for lane in ("high", "default", "low"):
        assert abs(served["a", lane] - served["b", lane]) <= 1
    await assert_consistent(store)


async def test_tenants_whose_tickets_a_worker_has_no_room_for_do_not_hide_the_others(store: Store) -> None:
    for number in range(30):
        await flood(store, f"functions{number}", 2, "function")
    behind = await create(store, tenant="plain")
    await take(store, functions=1, coroutines=0)
    assert ids(await take(store, functions=0, coroutines=1, deep=True)) == [behind.id]


async def test_a_claim_of_one_tenants_tickets_makes_as_many_calls_of_redis_as_their_number_asks_for(
    store: Store,
) -> None:
    """A claim of one of the tickets costs the same with a hundred tickets of the tenant as with three."""
    costs = []
    for count in (3, 100):
        await flood(store, "only", count)
        before = await commands(store.redis)
        [record] = await take(store, coroutines=1, functions=0, apart=0, deep=False)
        costs.append(await commands(store.redis) - before)
        await done(store, record, *await take(store))
    assert costs[0] == costs[1]


# --- stale entries


async def test_a_ticket_near_an_end_of_the_queue_leaves_no_entry(store: Store) -> None:
    flooding = await flood(store, "flood", 4)
    others = await flood(store, "other", 2)
    assert ids(await take(store, coroutines=4)) == ids([others[0], flooding[0], others[1], flooding[1]])
    assert await listed(store) == [job_of(record) for record in flooding[2:]]
    await assert_consistent(store)


async def within(store: Store) -> tuple[list[Record], list[Record]]:
    """Queue tickets of a tenant, and in their middle, far from both ends, two tickets of another tenant."""
    flooding = await flood(store, "flood", WINDOW + 5)
    others = await flood(store, "other", 2)
    return flooding + await flood(store, "flood", WINDOW), others


async def test_an_entry_deep_within_the_queue_is_left_and_dropped_when_it_is_the_head(store: Store) -> None:
    flooding, others = await within(store)
    started = await take(store, coroutines=4)
    assert ids(started) == ids([others[0], flooding[0], others[1], flooding[1]])
    left = [*flooding[2 : WINDOW + 5], *others, *flooding[WINDOW + 5 :]]
    assert await listed(store) == [job_of(record) for record in left]
    await assert_consistent(store)
    replies = []
    while (reply := await claims(store)).started:
        replies.append(reply)
    assert [record.id for reply in replies for record in reply.started] == ids(flooding[2:])
    assert not any(reply.refused for reply in replies), "nobody is told of an entry that was left"
    assert await listed(store) == []
    assert (reply.waiting, reply.left, reply.more) == (0, False, False)
    await assert_consistent(store)


async def test_the_job_of_an_entry_that_is_left_behind_belongs_to_the_attempt(store: Store) -> None:
    _, others = await within(store)
    started = [record for record in await take(store, coroutines=4) if record.tenant == "other"]
    job = store.keys.job(job_of(others[0]))
    assert await store.redis.hget(job, "status") == "started"
    while await take(store):
        pass
    assert await listed(store) == []
    assert await store.redis.exists(job), "its entry is dropped, and it runs"
    await done(store, *started)
    assert not await store.redis.exists(job)
    await assert_consistent(store)


async def test_a_stock_worker_is_refused_the_entry_of_a_ticket_that_was_claimed(store: Store) -> None:
    _, others = await within(store)
    assert len(await take(store, coroutines=4)) == 4
    answers = [await pop(store) for _ in range(WINDOW + 6)]
    refused = [list(answer.refused) for answer in answers if answer and not answer.started]
    assert refused == [[("STALE", job_of(record))] for record in others]
    await assert_consistent(store)


async def test_stock_workers_take_the_tickets_of_all_tenants_first_in_first_out(store: Store) -> None:
    made = [await create(store, tenant=tenant) for tenant in ("a", "a", "a", "b", "a", "c")]
    answers = [await pop(store) for _ in made]
    assert [ids(answer.started) if answer else None for answer in answers] == [[record.id] for record in made]
    await assert_consistent(store)


async def test_a_ticket_that_somebody_has_taken_off_the_queue_is_not_claimed_in_its_turn(store: Store) -> None:
    popped, *others = [await create(store, tenant=tenant) for tenant in ("a", "b", "a")]
    job: Any = await store.redis.lpop(store.keys.queue())
    assert ids(await take(store)) == ids(others)
    assert ids((await store.claim_ticket(job, worker="stock", kinds=KINDS)).started) == [popped.id]
    await assert_consistent(store)


async def test_a_long_run_of_stale_entries_is_dropped_by_few_claims(store: Store) -> None:
    blocked = await flood(store, "blocked", WINDOW, "function")
    others = await flood(store, "other", 2 * JUDGE_LIMIT)
    started: list[Record] = []
    while len(started) < len(others):
        started += await take(store, functions=0)
    assert len(await listed(store)) > JUDGE_LIMIT, "there is no room for the tickets at the head"
    assert ids(await take(store, coroutines=0, functions=WINDOW)) == ids(blocked)
    replies = [await claims(store) for _ in range(3)]
    assert [list(reply.refused) for reply in replies] == [[], [], []]
    assert [reply.left for reply in replies[1:]] == [False, False]
    assert (await listed(store), replies[-1].waiting) == ([], 0)
    await assert_consistent(store)


async def test_the_entries_of_a_tenant_behind_a_head_without_room_do_not_pile_up(store: Store) -> None:
    blocked = await flood(store, "blocked", 3, "function")
    for _ in range(WINDOW):
        other = await flood(store, "other", 3)
        assert ids(await take(store, functions=0)) == ids(other)
    assert await listed(store) == [job_of(record) for record in blocked]
    await assert_consistent(store)


async def test_a_job_that_is_no_ticket_is_refused_when_it_is_the_head(store: Store) -> None:
    await create(store, tenant="a")
    await store.redis.rpush(store.keys.queue(), "foreign")
    await create(store, tenant="b")
    reply = await claims(store)
    assert (len(reply.started), list(reply.refused)) == (2, [("FOREIGN", "foreign")])
    assert await listed(store) == []


async def test_an_idle_worker_is_woken_by_a_newcomer_although_entries_are_listed(store: Store) -> None:
    await flood(store, "flood", 3, "function")
    async with subscribed(store.redis, store.keys.wake) as subscription:
        await create(store, tenant="new")
        await create(store, tenant="new")
        assert await subscription.texts() == ["operations"]


# --- the sweeper


async def test_the_sweeper_finds_a_ticket_that_vanished_behind_stale_entries(store: Store, clock: Clock) -> None:
    canceled = await flood(store, "other", 3)
    last = await create(store, tenant="flood")
    for record in canceled:
        await store.apply(lifecycle.request_cancel(record))
    assert await store.redis.rpop(store.keys.queue()) == job_of(last)
    sweeper = Sweeper(store)
    await sweeper.sweep()
    assert await listed(store) == []
    await clock.advance(VANISHED_AFTER + 1)
    assert (await sweeper.sweep()).vanished == 1
    assert (await now(store, last)).vanished == 1
    await assert_consistent(store)


async def test_the_sweeper_leaves_a_job_that_is_no_ticket_at_the_head(store: Store) -> None:
    await store.redis.rpush(store.keys.queue(), "foreign")
    await create(store)
    await Sweeper(store).sweep()
    assert (await listed(store))[0] == "foreign"
    await store.redis.delete(store.keys.queue())


async def test_tenants_without_tickets_are_forgotten_and_known_for_some_days(store: Store, clock: Clock) -> None:
    await create(store, tenant="a")
    await create(store, tenant="b")
    await done(store, *await take(store))
    sweeper = Sweeper(store)
    await sweeper.sweep()
    assert not await store.redis.exists(store.keys.turns("default"))
    known = set(await store.redis.zrange(store.keys.known_tenants, 0, -1))
    assert known == {owner_digest("a"), owner_digest("b")}
    await clock.advance(TENANT_KNOWN_FOR - 60)
    await create(store, tenant="b")
    await sweeper.sweep()
    await clock.advance(120)
    await sweeper.sweep()
    assert await store.redis.zrange(store.keys.known_tenants, 0, -1) == [owner_digest("b")]


async def test_a_tenant_with_tickets_stays_known(store: Store, clock: Clock) -> None:
    await create(store, tenant="a")
    for _ in range(3):
        await clock.advance(TENANT_KNOWN_FOR / 2)
        await Sweeper(store).sweep()
    assert await store.redis.zcard(store.keys.known_tenants) == 1


# --- what a worker may take of a tenant


def bounded(held: dict[str, dict[str, int]] | None = None, **most: int) -> ClaimShares:
    return ClaimShares({}, most, held or {})


@pytest.mark.parametrize("deep", [False, True])
async def test_a_tenant_at_its_bound_holds_no_other_back(store: Store, deep: bool) -> None:
    await flood(store, "flood", 30)
    other = await flood(store, "other", 2)
    shares = bounded({"flood": {"coroutines": 9}}, coroutines=9, functions=1, apart=1)
    reply = await claims(store, coroutines=1, functions=0, apart=0, deep=deep, shares=shares)
    assert (ids(reply.started), reply.left) == ([other[0].id], True)
    await assert_consistent(store)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_claim_takes_no_more_of_a_tenant_than_its_bound(store: Store, others: int) -> None:
    flooding = await flood(store, "flood", 30)
    other = await flood(store, "other", others)
    shares = bounded({"flood": {"coroutines": 2}}, coroutines=5, functions=1, apart=1)
    reply = await claims(store, coroutines=10, shares=shares)
    assert tenants_of(reply.started) == {"flood": 3, **({"other": others} if others else {})}
    assert reply.left
    assert ids(await take(store, coroutines=10, shares=shares)) == ids(flooding[3:6])
    assert await stages(store, other) == [Stage.RUNNING] * others
    await assert_consistent(store)


async def test_the_bound_of_one_kind_does_not_count_for_another(store: Store) -> None:
    await flood(store, "flood", 5, "function")
    await flood(store, "flood", 5)
    shares = bounded({"flood": {"functions": 3}}, coroutines=2, functions=3, apart=1)
    started = await take(store, shares=shares)
    assert Counter(record.type for record in started) == {"#test.plain": 2}


async def test_operations_that_run_apart_are_bounded_too_and_are_parked_in_front_of_nobody(store: Store) -> None:
    await flood(store, "flood", 5, "isolated")
    shares = bounded({"flood": {"apart": 1}}, coroutines=9, functions=9, apart=1)
    reply = await claims(store, apart=2, shares=shares)
    assert (list(reply.started), len(reply.parked)) == ([], 5)
    other = await create(store, "isolated", tenant="other")
    assert ids(await take(store, apart=1, shares=shares)) == [other.id]
    await assert_consistent(store)
    assert len(await take(store, apart=1, shares=bounded(coroutines=9, functions=9, apart=1))) == 1
    await assert_consistent(store)


async def test_a_window_of_parked_operations_of_a_tenant_at_its_bound_does_not_hide_those_of_another(
    store: Store,
) -> None:
    await flood(store, "flood", WINDOW - 1, "isolated")
    other = await create(store, "isolated", tenant="other")
    assert await take(store, apart=0) == []
    shares = bounded({"flood": {"apart": 1}}, coroutines=9, functions=9, apart=1)
    assert ids(await take(store, apart=1, shares=shares)) == [other.id]
    await assert_consistent(store)


# --- at random


async def test_however_tenants_come_and_claims_mix_nothing_is_lost_and_each_tenants_tickets_keep_their_order(
    store: Store, settings: Settings
) -> None:
    random = chance()
    verifier = Verifier(store, settings, recheck_after=0)
    waiting: dict[str, list[str]] = {f"t{number}": [] for number in range(6)}
    begun: set[str] = set()
    for step in range(200):
        for tenant in random.choices(list(waiting), k=random.randrange(4)):
            count = random.choice([1, 1, 2, 8])
            waiting[tenant] += ids(await flood(store, tenant, count))
        if random.random() < 0.15 and (answer := await pop(store)) is not None:
            got = list(answer.started)
        else:
            got = await take(store, coroutines=random.choice([0, 1, 2, 16]), deep=random.random() < 0.5)
        for record in got:
            assert record.id not in begun, "it is begun once"
            assert waiting[record.tenant].pop(0) == record.id, "the tickets of a tenant keep their order"
            begun.add(record.id)
        await done(store, *random.sample(got, len(got) // 2))
        numbers = [parsed[1] for job in await listed(store) if (parsed := parse_job_id(job))]
        assert numbers == sorted(set(numbers))
        if step % 20 == 0:
            await assert_consistent(store)
    while got := await take(store, coroutines=16):
        for record in got:
            assert waiting[record.tenant].pop(0) == record.id
    assert not any(waiting.values()), "nothing is lost"
    assert await listed(store) == []
    assert (await verifier.verify()).faults == []
    await assert_consistent(store)


async def test_a_tenant_that_comes_again_after_a_sweep_is_not_before_one_that_waits(store: Store) -> None:
    first, *rest = await flood(store, "flood", 20)
    others = [f"t{number}" for number in range(3)]
    begun: Counter[str] = Counter()
    for _ in range(8):
        for tenant in others:
            await create(store, tenant=tenant)
        for _ in others:
            begun.update(tenants_of(await take(store, coroutines=1)))
            await Sweeper(store).sweep()
    assert begun["flood"] >= 4, begun
    assert first is not rest[0]


async def test_however_claims_mix_no_tenant_waits_for_more_turns_than_there_are_tenants(store: Store) -> None:
    random = chance()
    passed: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    tenants = [f"t{number}" for number in range(5)]
    await flood(store, "flood", 400)
    waiting["flood"] = 400
    for _ in range(150):
        for tenant in random.choices(tenants, k=random.randrange(3)):
            await create(store, tenant=tenant)
            waiting[tenant] += 1
        for record in await take(store, coroutines=1, deep=random.random() < 0.5):
            waiting[record.tenant] -= 1
            passed[record.tenant] = 0
            for tenant, count in waiting.items():
                passed[tenant] = passed[tenant] + 1 if count and tenant != record.tenant else 0
        assert all(times <= 2 * len(waiting) for times in passed.values()), passed
