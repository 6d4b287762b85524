"""Claims from the queues: their order, their priorities, and entries that are not tickets."""

from collections import Counter
from random import Random

from redis import Redis as BlockingRedis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry

from tests.support.consistency import assert_consistent
from tests.support.scheduling import chance, claims, create, ids, take
from tracker.domain import lifecycle
from tracker.store.script_constants import FIRST_LANES, JUDGE_LIMIT, WINDOW
from tracker.store.store import Store

# --- order


async def fill(store: Store, random: Random, count: int) -> list[tuple[str, str]]:
    """Put tickets of both kinds on the queue, and some that come to nothing; answer what each is, and its job id."""
    made = []
    for _ in range(count):
        what = random.choice(["plain", "plain", "function", "function", "STALE", "MISSING", "FOREIGN"])
        record = await create(store, what if what.islower() else "plain")
        job = f"{record.key}-{record.ticket}"
        match what:
            case "STALE":
                await store.apply(lifecycle.request_cancel(record))
            case "MISSING":
                await store.redis.delete(store.keys.operation(record.key))
            case "FOREIGN":
                await store.redis.lset(store.keys.queue(), -1, record.id)
                job = record.id
        made.append((what, job))
    return made


def expected(waiting: list[tuple[str, str]], room: dict[str, int], *, deep: bool) -> tuple[list[str], list[str]]:
    """What a claim with that room begins and refuses; takes both out of `waiting`. The rule, in Python."""
    begun: list[str] = []
    refused: list[str] = []
    kept: list[tuple[str, str]] = []
    left = list(waiting)
    judged = 0
    while left and sum(room.values()) and judged < JUDGE_LIMIT and len(kept) < (WINDOW if deep else 1):
        what, job = left.pop(0)
        judged += 1
        if what.isupper():
            refused.append(job)
        elif room[what]:
            room[what] -= 1
            begun.append(job)
        else:
            kept.append((what, job))
    waiting[:] = kept + left
    return begun, refused


async def test_every_claim_takes_exactly_what_it_has_room_for_and_leaves_the_rest_in_order(store: Store) -> None:
    random = chance()
    waiting = await fill(store, random, 300)
    while waiting:
        room = {"plain": random.choice([0, 1, 3, 60]), "function": random.choice([0, 1, 2, 60])}
        deep = random.random() < 0.7
        got = await claims(store, coroutines=room["plain"], functions=room["function"], apart=0, deep=deep)
        begun, refused = expected(waiting, room, deep=deep)
        assert [f"{record.key}-{record.ticket}" for record in got.started] == begun
        assert [job for _, job in got.refused] == refused
        assert await store.redis.lrange(store.keys.queue(), 0, -1) == [job for _, job in waiting]
        assert got.waiting == len(waiting)


# --- tickets that are none


async def test_a_job_that_is_no_ticket_goes_to_rqs_failed_registry(store: Store, redis_url: str) -> None:
    with BlockingRedis.from_url(redis_url) as redis:
        queue = Queue("operations", connection=redis, serializer="json")
        foreign = queue.enqueue("os.getcwd", description="not ours")
        redis.rpush(queue.key, "no-job-at-all")
        record = await create(store)
        answer = await claims(store)
        assert ids(answer.started) == [record.id]
        assert answer.refused == [("FOREIGN", foreign.id), ("FOREIGN", "no-job-at-all")]
        registry = FailedJobRegistry(queue=queue)
        assert registry.get_job_ids() == [foreign.id]
        job = Job.fetch(foreign.id, connection=redis, serializer="json")
        assert job.get_status() is JobStatus.FAILED
        assert job.ended_at is not None
        assert 0 < redis.ttl(job.key) <= 86_400
        assert not redis.exists("rq:job:no-job-at-all")
        assert registry.requeue(foreign.id).get_status() is JobStatus.QUEUED, "nothing of it is lost"
    await assert_consistent(store)


async def test_a_ticket_of_what_has_ended_is_dropped_with_its_job(store: Store) -> None:
    canceled, kept = await create(store), await create(store)
    await store.apply(lifecycle.request_cancel(canceled))
    answer = await claims(store)
    assert ids(answer.started) == [kept.id]
    assert answer.refused == [("STALE", f"{canceled.key}-{canceled.ticket}")]
    assert not await store.redis.exists(store.keys.job(f"{canceled.key}-{canceled.ticket}"))


async def test_a_ticket_without_its_operation_is_dropped_with_its_job(store: Store) -> None:
    record = await create(store)
    await store.redis.delete(store.keys.operation(record.key))
    assert (await claims(store)).refused == [("MISSING", f"{record.key}-{record.ticket}")]
    assert not await store.redis.exists(store.keys.job(f"{record.key}-{record.ticket}"))


async def test_a_ticket_that_is_there_twice_is_begun_once(store: Store) -> None:
    """As after a requeue by hand: the second must not take the running one's job away."""
    record = await create(store)
    job = f"{record.key}-{record.ticket}"
    await store.redis.rpush(store.keys.queue(), job)
    answer = await claims(store)
    assert ids(answer.started) == [record.id]
    assert answer.refused == [], "an entry whose ticket was claimed is dropped without a word"
    await assert_consistent(store)


# --- lanes


async def test_each_lane_has_its_turns_and_takes_those_that_others_leave(store: Store) -> None:
    for lane in ("low", "high", "default"):
        for _ in range(40):
            await create(store, priority=lane)
    turns = 0
    for served in (
        {"high": 20, "default": 16, "low": 4},
        {"high": 20, "default": 16, "low": 4},
        {"default": 8, "low": 32},
    ):
        part = await take(store, coroutines=8, turn=turns)
        while len(part) < 40:
            part += await take(store, coroutines=8, turn=turns + len(part))
        assert Counter(record.policy.priority for record in part) == served
        turns += len(part)
    assert await take(store) == []


async def test_however_claims_and_arrivals_mix_no_lane_starves_and_none_is_out_of_order(store: Store) -> None:
    random = chance()
    waiting: dict[str, list[str]] = {"high": [], "default": [], "low": []}
    passed = Counter(dict.fromkeys(waiting, 0))
    turn = 0
    for _ in range(150):
        for _ in range(random.randrange(4)):
            lane = random.choice(list(waiting))
            waiting[lane].append((await create(store, priority=lane)).id)
        got = await take(store, coroutines=random.randrange(1, 4), turn=turn)
        turn += len(got)
        for record in got:
            served = record.policy.priority
            assert waiting[served].pop(0) == record.id
            for lane, others in waiting.items():
                passed[lane] = passed[lane] + 1 if others and lane != served else 0
        for lane, times in passed.items():
            assert times < len(FIRST_LANES), f"{lane} had no turn in {times} claims"
