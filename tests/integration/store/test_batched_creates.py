"""Creates that share a script call have the results of creates one after another."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.pubsub import subscribed
from tests.support.records import CALL, make_record
from tracker.config import Settings
from tracker.domain.operation import SECOND
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.type_registry import COMMS_OPERATION
from tracker.maintenance.verifier import Verifier
from tracker.store.create_args import CreateArgs
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.store import Store

Asked = tuple[Record, float, IdempotencyKey]
Became = tuple[Record, bool] | BaseException
POLICIES = [Policy(), Policy(), Policy(priority="low"), Policy(serial=True), Policy(start_within=60.0)]
DIFFERENT = {"key", "tenant", "digest", "ticket", "created", "changed", "not_before", "start_by"}
"""Fields that two runs of the same cannot share."""


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def drawn(rng: random.Random, number: int) -> list[Asked]:
    """Creates of two tenants, calls and types, of which some have the same id, body or name."""
    asked = []
    for _ in range(number):
        record = make_record(
            tenant=rng.choice(["test", "test", "second"]),
            call_id=rng.choice([CALL, CALL, "other"]),
            type=rng.choice([COMMS_OPERATION, COMMS_OPERATION, "#contoso.rare"]),
            not_before=rng.choice([0, 0, 4_102_444_800 * SECOND]),
            policy=rng.choice(POLICIES),
            client_context=rng.choice([None, "", "a", "b"]),
            members=rng.choice([{}, {"a": [1, "ü"]}]),
        )
        if rng.random() < 0.5:
            record = record._replace(id=rng.choice("xyz"), digest=rng.choice("de"))
        name = rng.choice(["", "", "1", "2"])
        once = IdempotencyKey(name * 40, f"{record.digest[:1]}.{record.id[:1]}", 60) if name else NO_KEY
        asked.append((record, rng.choice([0.0, 0.0, 5.0]), once))
    return asked


def of_tenant(tenant: str, asked: Sequence[Asked]) -> list[Asked]:
    """The same, by another tenant, whose keys and names are its own."""
    swapped = []
    for record, delay, once in asked:
        other = record._replace(tenant=f"{tenant} {record.tenant}", key=record.key[::-1])
        other = other._replace(id=record.id if len(record.id) == 1 else f"{other.key}-id")
        swapped.append((other, delay, replace(once, digest=once.digest and f"{once.digest[:-1]}f")))
    return swapped


async def became(store: Store, asked: Sequence[Asked]) -> list[Became]:
    """What becomes of those that are asked for in one go."""
    return [*await store.create_each([CreateArgs(*one) for one in asked])]


def shown(answers: Sequence[Became]) -> list[Any]:
    """What must be the same: which of those asked before it answers each, and how."""
    firsts: dict[str, int] = {}
    found: list[Any] = []
    for place, answer in enumerate(answers):
        if isinstance(answer, BaseException):
            found.append(type(answer))
            continue
        record, new = answer
        fields = {name: value for name, value in record._asdict().items() if name not in {*DIFFERENT, "id"}}
        found.append((firsts.setdefault(record.key, place), new, record.not_before > 0, record.start_by > 0, fields))
    return found


async def test_creates_of_one_script_call_are_judged_as_one_after_another(
    store: Store, settings: Settings, rng: random.Random
) -> None:
    for _ in range(10):
        asked = drawn(rng, rng.randrange(2, 30))
        alone = [answer for one in of_tenant("other", asked) for answer in await became(store, [one])]
        assert shown(await became(store, asked)) == shown(alone)
        assert (await Verifier(store, settings, recheck_after=0).verify()).faults == []
        await store.redis.flushdb()


async def test_each_create_is_stored_as_it_was_answered_whatever_is_beside_it(store: Store, rng: random.Random) -> None:
    for _ in range(30):
        answers = await became(store, drawn(rng, rng.choice([2, 3, 20])))
        records = [answer[0] for answer in answers if isinstance(answer, tuple)]
        assert await store.read(record.key for record in records) == records


async def test_operations_are_created_in_the_order_of_the_requests(store: Store) -> None:
    records = [make_record() for _ in range(30)]
    stored = await store.create_each([CreateArgs(record) for record in records])
    created = [one[0].created for one in stored if isinstance(one, tuple)]
    assert created == sorted(set(created))
    assert await store.redis.zrange(store.keys.call("test", CALL), 0, -1) == [record.key for record in records]


async def test_tickets_of_one_script_call_stand_in_the_order_of_their_numbers_and_their_jobs_are_alike(
    store: Store,
) -> None:
    policies = [Policy(priority=lane) for lane in ("high", "default", "low")]
    stored = await asyncio.gather(*(store.create(make_record(policy=policies[n % 3])) for n in range(12)))
    for lane, policy in zip(("high", "default", "low"), policies, strict=True):
        mine = [record for record, _ in stored if record.policy.priority == policy.priority]
        jobs = [f"{record.key}-{record.ticket}" for record in mine]
        assert await store.redis.lrange(store.keys.queue(lane), 0, -1) == jobs
        first, *others = [await fields_of(store, job) for job in jobs]
        assert all(other == first for other in others)
    numbers = [record.ticket for record, _ in stored]
    assert numbers == sorted(set(numbers))


async def fields_of(store: Store, job: str) -> dict[str, Any]:
    hash_of_job = store.keys.job(job)
    names = [str(name) for name in await store.redis.hkeys(hash_of_job) if name != "data"]  # which is no text
    return {name: await store.redis.hget(hash_of_job, name) for name in names}


async def test_idle_workers_are_woken_once_by_creates_into_an_empty_queue(store: Store, redis: Redis) -> None:
    async with subscribed(redis, store.keys.wake) as subscription:
        await asyncio.gather(*(store.create(make_record()) for _ in range(5)))
        assert await subscription.texts() == ["operations"]
        await asyncio.gather(*(store.create(make_record()) for _ in range(5)))
        assert await subscription.texts() == []


async def test_a_hash_that_tickets_are_copies_of_is_made_again_when_it_is_lost(store: Store, redis: Redis) -> None:
    first, _ = await store.create(make_record())
    [copied] = [key async for key in redis.scan_iter(store.keys.ticket("*"))]
    await redis.delete(copied)
    second, _ = await store.create(make_record())
    jobs = [await fields_of(store, f"{record.key}-{record.ticket}") for record in (first, second)]
    assert jobs[0].keys() == jobs[1].keys()
    assert await redis.exists(copied)


async def test_creates_of_different_calls_and_tenants_in_one_turn_are_separate(
    store: Store, settings: Settings
) -> None:
    records = [
        make_record(tenant=f"tenant-{number % 2}", call_id=f"call-{number % 3}", id=f"id-{number // 2}")
        for number in range(12)
    ]
    await store.ready()
    await store.redis.config_resetstat()
    stored = await asyncio.gather(*(store.create(record) for record in records))
    assert (await store.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1
    assert [(record.tenant, record.call_id, new) for record, new in stored] == [
        (record.tenant, record.call_id, True) for record in records
    ]
    for record, _ in stored:
        assert await store.find(record.tenant, record.id) == record
        members = await store.redis.zrange(store.keys.call(record.tenant, record.call_id), 0, -1)
        neighbours = [one for one in records if (one.tenant, one.call_id) == (record.tenant, record.call_id)]
        assert members == [one.key for one in neighbours]
    assert (await Verifier(store, settings, recheck_after=0).verify()).faults == []
