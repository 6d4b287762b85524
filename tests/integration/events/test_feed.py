"""Events that scripts publish of the operations that they change, and the history that is kept of them."""

import re
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.clock import Clock
from tests.support.feeds import stored_events
from tests.support.pubsub import subscribed
from tests.support.records import CALL, claim, make_record
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.events.feed import BEGINNING, Event, Position
from tracker.events.history import Feed
from tracker.store import script_constants
from tracker.store.script_replies import Room
from tracker.store.store import Store, pack

KINDS = {canonical(COMMS_OPERATION): "coroutines"}


@pytest.fixture
def feed(redis: Redis, store: Store) -> Feed:
    return Feed(redis, store.keys.feed("test"), store.feed_length)


async def steps(feed: Feed) -> list[tuple[int, str, int]]:
    return [
        (event.revision, "gone" if event.gone else str(event.status), event.attempt)
        for event in await stored_events(feed)
    ]


async def test_every_change_is_published_once_with_the_record_as_it_then_is(store: Store, feed: Feed) -> None:
    record, _ = await store.create(make_record())
    seen = [record]
    seen.append(await claim(store, record))
    seen.append(await store.apply(lifecycle.progress(seen[-1], 40, 'half "way" / ü\n\x7f')))
    seen.append(await store.apply(lifecycle.request_cancel(seen[-1], "no")))
    seen.append(await store.apply(lifecycle.succeed(seen[-1], DONE, {})))
    assert [Event.of(each) for each in seen] == [
        Event(**{name: getattr(event, name) for name in Event.__slots__ if name != "ran"})
        for event in await stored_events(feed)
    ]
    assert (await stored_events(feed))[-1].ran == seen[-1].completed - seen[-1].began


async def test_a_change_after_the_end_has_no_run_time_again(store: Store, feed: Feed) -> None:
    record, _ = await store.create(make_record())
    ended = await store.apply(lifecycle.succeed(await claim(store, record), DONE, {}))
    await store.apply(lifecycle.patch(ended, {"client_context": "later"}))
    *_, end, patched = await stored_events(feed)
    assert (end.status, patched.status) == (ended.status, ended.status)
    assert (end.ran is None, patched.ran) == (False, None)


async def test_a_batch_is_one_message_and_one_entry(store: Store, redis: Redis, feed: Feed) -> None:
    for number in range(5):
        await store.create(make_record(id=f"mine-{number}"))
    end = await feed.end()
    async with subscribed(redis, store.keys.events) as subscription:
        claims = await store.claim("w1", Room(10, 0, KINDS), batch="1")
        await store.write([pack(lifecycle.succeed(record, DONE, {})) for record in claims.started])
        first, second = await subscription.texts()
    assert [message.count("\n") for message in (first, second)] == [5, 5]
    entries: Any = await redis.xrange(store.keys.feed("test"), f"({end.entry}", "+")
    only_published = re.compile(r',"r":\{\},"x":\d{16}(?=}])')
    assert len(only_published.findall(second)) == 5
    assert [f"{entry}\n{fields['']}" for entry, fields in entries] == [
        only_published.sub("", message).partition("\t")[2] for message in (first, second)
    ]


async def test_tenants_have_feeds_of_their_own(store: Store, feed: Feed, redis: Redis) -> None:
    await store.create(make_record())
    await store.create(make_record(tenant="other"))
    assert len((await store.claim("w1", Room(10, 0, KINDS), batch="1")).started) == 2
    assert (
        len(await stored_events(feed))
        == len(await stored_events(Feed(redis, store.keys.feed("other"), store.feed_length)))
        == 2
    )


async def test_a_deleted_running_operation_publishes_only_its_end(store: Store, feed: Feed) -> None:
    record, _ = await store.create(make_record())
    running = await claim(store, record)
    hidden = await store.apply(lifecycle.hide(running))
    hidden = await store.apply(lifecycle.progress(hidden, 50, "secret"))
    await store.apply(lifecycle.cancel(hidden))
    assert await steps(feed) == [(1, "NotStarted", 0), (2, "Running", 1), (3, "gone", 1)]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_delete_publishes_that_the_operation_is_gone(store: Store, feed: Feed, ended: bool) -> None:
    record, _ = await store.create(make_record(id="mine"))
    if ended:
        record = await store.apply(lifecycle.cancel(record))
    await store.apply(lifecycle.hide(record))
    assert [event.gone for event in await stored_events(feed)] == ([False, False, True] if ended else [False, True])
    assert {event.id for event in await stored_events(feed)} == {"mine"}


async def test_the_end_of_the_retention_is_published_and_the_end_of_a_tombstone_is_not(
    store: Store, feed: Feed, clock: Clock
) -> None:
    record, _ = await store.create(make_record(policy=Policy(retention=10, tombstone=10)))
    await store.apply(lifecycle.cancel(record))
    for _ in range(2):
        await clock.advance(11)
        await store.expire(100)
    assert await steps(feed) == [(1, "NotStarted", 0), (2, "Failed", 0), (3, "gone", 0)]


async def test_operations_that_a_change_releases_are_in_the_same_message(
    store: Store, feed: Feed, redis: Redis
) -> None:
    policy = Policy(serial=True)
    first, _ = await store.create(make_record(policy=policy))
    second, _ = await store.create(make_record(policy=policy))
    end = await feed.end()
    await store.apply(lifecycle.cancel(first))
    assert await redis.xlen(store.keys.feed("test")) == 3
    assert [event.key for event in await stored_events(feed, end)] == [first.key, second.key]


async def test_operations_that_the_sweeper_releases_are_published(store: Store, feed: Feed, clock: Clock) -> None:
    record, _ = await store.create(make_record())
    [parked] = (await store.claim("w1", Room(1, 0, {}), batch="1")).parked
    await clock.advance(script_constants.PROBE_AFTER + 1)
    await store.overdue(100)
    assert parked.blocker == "type"
    assert [event.revision for event in await stored_events(feed)] == [1, 2, 3]
    assert (await store.find("test", record.id)).revision == 3


async def test_a_repeated_call_publishes_nothing_again(store: Store, feed: Feed) -> None:
    record = make_record()
    created, _ = await store.create(record)
    await store.create(record)
    await store.claim("w1", Room(1, 0, KINDS), batch="same")
    [running] = (await store.claim("w1", Room(1, 0, KINDS), batch="same")).started
    change = lifecycle.succeed(running, DONE, {})
    await store.apply(change)
    await store.apply(change)
    assert await steps(feed) == [(1, "NotStarted", 0), (2, "Running", 1), (3, "Completed", 1)]
    assert created.revision == 1


async def test_a_long_result_is_published_without_its_message(store: Store, feed: Feed) -> None:
    record, _ = await store.create(make_record())
    running = await claim(store, record)
    await store.apply(lifecycle.reject(running, ResultInfo(code=-400, subcode=-7, message='"' * 2000), {}))
    assert (await stored_events(feed))[-1].result_info == ResultInfo(code=-400, subcode=-7, message="")


async def test_a_feed_is_bounded_and_lasts_a_day(store: Store, redis: Redis, feed: Feed) -> None:
    name = store.keys.feed("test")
    pipe = redis.pipeline()
    for _ in range(script_constants.FEED_LENGTH + 300):
        pipe.xadd(name, {"": "x"})
    await pipe.execute()
    entries: Any = await redis.xrange(name, count=1)
    oldest = Position.of(entries[0][0], 1)
    assert await feed.holds(oldest)
    await store.create(make_record())
    assert script_constants.FEED_LENGTH <= await redis.xlen(name) < script_constants.FEED_LENGTH + 200
    assert not await feed.holds(oldest)
    assert script_constants.FEED_FOR - 5 <= await redis.ttl(name) <= script_constants.FEED_FOR


async def test_the_end_of_a_feed_is_where_what_comes_next_begins(store: Store, feed: Feed) -> None:
    assert await feed.end() == BEGINNING
    await store.create(make_record(call_id=CALL))
    end = await feed.end()
    assert Position.read(str(end)) == end
    assert await feed.holds(end)
    assert not await stored_events(feed, end)
    record, _ = await store.create(make_record())
    assert [event.key for event in await stored_events(feed, end)] == [record.key]


@pytest.mark.parametrize("text", ["", "1-2", "1-2-3-4", "x-1-1", "1--1", "1-1-1\n", "٣-1-1", f"{'9' * 16}-1-1"])
def test_a_malformed_position_is_none(text: str) -> None:
    assert Position.read(text) is None
