"""The contract of an event hub, passed over the fake Redis and over a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis

from tests.support.waiting import LONGEST_WAIT, soon
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.events.follower import MOST_BEHIND, Follower
from tracker.events.hub import REMEMBERED, EventHub, RecentChanges
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.store.connection import open_redis
from tracker.store.keys import owner_digest

CHANNEL = "tracker:events"
A, B = "a" * 32, "b" * 32


def message(*lines: str, tenant: str = "test", entry: str = "1-0") -> str:
    return "\n".join([f"{owner_digest(tenant)}\t{entry}", *lines])


def line(key: str = A, call: str = "call-1", revision: int = 2, stage: str = "running") -> str:
    return f'{key}\t{call}\t[{revision},"{stage}",1,1700000000000000]'


async def taken(follower: Follower) -> list[tuple[str, str, int]]:
    """Position, key and revision of what there is for a follower; it must be something."""
    async with asyncio.timeout(LONGEST_WAIT):
        events = await follower.take(within=10 * LONGEST_WAIT)
    return [(str(told.position), told.event.key, told.event.revision) for told in events]


@pytest.fixture(params=["fake", "real"])
async def feed(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    if request.param == "fake":
        async with FakeAsyncRedis(decode_responses=True) as fake:
            yield fake
    else:
        settings: Settings = request.getfixturevalue("settings")
        async with open_redis(settings) as real:
            yield real


@pytest.fixture
async def events(feed: Redis) -> AsyncIterator[EventHub]:
    events = EventHub(feed, CHANNEL, Budgets(Settings()))
    async with beside(events.run()):
        await soon(events.subscribed.wait())
        yield events


async def test_a_change_wakes_those_who_wait_for_that_operation_and_nobody_else(feed: Redis, events: EventHub) -> None:
    with (
        events.changes.next_change(A) as first,
        events.changes.next_change(A) as second,
        events.changes.next_change(B) as other,
    ):
        await feed.publish(CHANNEL, message(line(A)))
        await soon(asyncio.gather(first.arrived, second.arrived))
        assert not other.arrived.done()


@pytest.mark.parametrize("stage", ["completed", "failed", "tombstone"])
async def test_a_waiter_for_an_end_is_not_woken_by_other_changes(feed: Redis, events: EventHub, stage: str) -> None:
    call = 'a "completed" call'
    with events.ends.next_change(A) as end:
        with events.changes.next_change(A) as change:
            await feed.publish(CHANNEL, message(line(A, call), line(B, stage=stage)))
            await soon(change.arrived)
        assert not end.arrived.done()
        await feed.publish(CHANNEL, message(line(A, call, stage=stage)))
        await soon(end.arrived)


async def test_every_change_in_a_message_wakes_its_waiters(feed: Redis, events: EventHub) -> None:
    with events.changes.next_change(A) as first, events.changes.next_change(B) as second:
        await feed.publish(CHANNEL, message(line(A), line(B)))
        await soon(asyncio.gather(first.arrived, second.arrived))


async def test_a_change_that_arrives_while_another_is_read_wakes_again(feed: Redis, events: EventHub) -> None:
    for revision in range(3):
        with events.changes.next_change(A) as change:
            await feed.publish(CHANNEL, message(line(A, revision=revision)))
            await soon(change.arrived)


async def test_waiters_and_followers_that_stopped_leave_nothing_behind(feed: Redis, events: EventHub) -> None:
    with (
        events.changes.next_change(A) as change,
        events.follow("test"),
        events.follow("test", call_id="c"),
        events.follow("t", key=A),
    ):
        pass
    with events.changes.next_change(B) as marker:
        await feed.publish(CHANNEL, message(line(A), line(B)))
        await soon(marker.arrived)
    assert not change.arrived.done()
    assert not events.changes.waiting
    assert not events._followers


async def test_a_follower_gets_the_events_of_its_operation_call_or_tenant_in_order(
    feed: Redis, events: EventHub
) -> None:
    with (
        events.follow("test", key=A) as one,
        events.follow("test", call_id="call-1") as call,
        events.follow("test") as tenant,
        events.follow("other") as stranger,
    ):
        lines: Iterable[str] = [line(A), line(B), line(B, call="call 2"), line(A, revision=3)]
        await feed.publish(CHANNEL, message(*lines, entry="5-1"))
        assert await taken(one) == [("5-1-1", A, 2), ("5-1-4", A, 3)]
        assert await taken(call) == [("5-1-1", A, 2), ("5-1-2", B, 2), ("5-1-4", A, 3)]
        assert len(await taken(tenant)) == 4
        assert not await stranger.take(within=0)


async def test_calls_with_the_same_name_in_two_tenants_have_separate_events(feed: Redis, events: EventHub) -> None:
    with events.follow("test", call_id="call-1") as mine, events.follow("other", call_id="call-1") as theirs:
        await feed.publish(CHANNEL, message(line(A), tenant="other"))
        assert len(await taken(theirs)) == 1
        assert not await mine.take(within=0)


async def test_lines_that_cannot_be_read_are_skipped(feed: Redis, events: EventHub) -> None:
    with events.follow("test") as follower:
        bad = ["", "x", f"{A}\tcall-1", f"{A}\tcall-1\t[1", f'{A}\tcall-1\t[1,"new",0,1]', f"{A}\tcall-1\t7"]
        await feed.publish(CHANNEL, message(*bad))
        await feed.publish(CHANNEL, "a 2 running Running")
        await feed.publish(CHANNEL, message(line(B)))
        assert await taken(follower) == [("1-0-1", B, 2)]


async def test_a_follower_that_is_too_slow_is_marked_as_behind_and_its_events_are_dropped(
    feed: Redis, events: EventHub
) -> None:
    with events.follow("test") as slow, events.changes.next_change(B) as marker:
        for _ in range(MOST_BEHIND // 100 + 1):
            await feed.publish(CHANNEL, message(*[line(A)] * 100))
        await feed.publish(CHANNEL, message(line(B)))
        await soon(marker.arrived)
        assert not await slow.take(within=10 * LONGEST_WAIT)
        assert slow.behind


async def test_a_stop_wakes_every_waiter_and_follower_now_and_later(events: EventHub) -> None:
    with events.changes.next_change(A) as change, events.follow("test") as follower:
        events.stop()
        await soon(change.arrived)
        assert not await soon(follower.take(within=10 * LONGEST_WAIT))
        assert follower.stopped
    with events.follow("test") as late:
        assert late.stopped


async def test_changes_received_since_a_position_are_known(feed: Redis, events: EventHub) -> None:
    recent = events.changes.recent
    before = recent.position
    with events.changes.next_change(B) as marker:
        await feed.publish(CHANNEL, message(line(A), line(B)))
        await soon(marker.arrived)
    assert [recent.changed_since(before, key) for key in (A, B, "c" * 32)] == [True, True, False]
    assert not recent.changed_since(recent.position, A)
    assert recent.changed_since(-1, "c" * 32), "nothing is known of what was before the first mark"


def test_a_received_change_is_known_for_a_while_and_then_uncertain_but_never_denied() -> None:
    recent = RecentChanges()
    recent.add([A])
    before = recent.position
    recent.add([B])
    for number in range(REMEMBERED - 2):
        recent.add([str(number)])
        recent.add([str(number)])
    assert (recent.changed_since(before, B), recent.changed_since(before, A)) == (True, False)
    for number in range(REMEMBERED):
        recent.add([f"x{number}"])
    assert recent.changed_since(before, B)
    assert recent.changed_since(before, A), "it is not known any more"
    after = recent.position
    assert not recent.changed_since(after, A)
    recent.forget_all()
    assert recent.changed_since(after, A)
    assert not recent.changed_since(recent.position, A)
    assert len(recent._recent) + len(recent._older) <= 2 * REMEMBERED


async def test_an_event_has_every_field_that_was_published(events: EventHub, feed: Redis) -> None:
    more = '{"i":"mine","p":40,"d":"half \\/ way\\n","q":3,"c":1,"k":"#a.b","b":4,"f":[499,0,"x"]}'
    with events.follow("test") as follower:
        await feed.publish(CHANNEL, message(f'{A}\tcall\t[7,"failed",2,10,{more}]', f'{B}\tcall\t[1,"queued",0,1]'))
        ended, queued = [told.event for told in await follower.take(within=10 * LONGEST_WAIT)]
    assert (ended.id, ended.percent, ended.detail, ended.cancel_requested) == ("mine", 40, "half / way\n", 3)
    assert (ended.status, ended.canceled, ended.type, ended.ran) == (OperationStatus.FAILED, True, "#a.b", 6)
    assert ended.result_info is not None
    assert (ended.result_info.code, ended.result_info.message) == (499, "x")
    assert (queued.status, queued.id, queued.ran) == (
        OperationStatus.NOT_STARTED,
        f"{B[:8]}-bbbb-bbbb-bbbb-{B[:12]}",
        None,
    )


async def test_a_lost_connection_wakes_every_waiter_and_the_feed_goes_on(settings: Settings) -> None:
    async with open_redis(settings) as redis:
        events = EventHub(redis, CHANNEL, Budgets(Settings()))
        async with beside(events.run()):
            await soon(events.subscribed.wait())
            before = events.ends.recent.position
            with (
                events.changes.next_change(A) as change,
                events.ends.next_change(A) as end,
                events.follow("test") as follower,
            ):
                await redis.client_kill_filter(_type="pubsub")
                await soon(asyncio.gather(change.arrived, end.arrived))
                assert events.ends.recent.changed_since(before, A), "it may have ended meanwhile"
                assert not await soon(follower.take(within=10 * LONGEST_WAIT))
                assert follower.missed
            with events.changes.next_change(A) as change:
                await redis.publish(CHANNEL, message(line(A)))
                await soon(change.arrived)
