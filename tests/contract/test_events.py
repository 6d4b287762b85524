"""What every feed of events must do, over the fake Redis and over a real one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis

from tracker.background import beside
from tracker.config import Settings
from tracker.connection import open_redis
from tracker.events import Events

CHANNEL = "tracker:events"


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
async def events(feed: Redis) -> AsyncIterator[Events]:
    events = Events(feed, CHANNEL)
    async with beside(events.run()):
        await asyncio.wait_for(events.subscribed.wait(), 5)
        yield events


async def test_a_change_wakes_those_who_watch_that_operation_and_nobody_else(feed: Redis, events: Events) -> None:
    with events.watch("a") as first, events.watch("a") as second, events.watch("b") as other:
        await feed.publish(CHANNEL, "a 2 running Running")
        await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 5)
        assert not other.is_set()


async def test_every_change_wakes_again(feed: Redis, events: Events) -> None:
    with events.watch("a") as changed:
        for revision in range(3):
            await feed.publish(CHANNEL, f"a {revision} running Running")
            await asyncio.wait_for(changed.wait(), 5)
            changed.clear()


async def test_nothing_is_kept_of_those_who_stopped_watching(feed: Redis, events: Events) -> None:
    with events.watch("a") as changed:
        pass
    with events.watch("b") as marker:
        await feed.publish(CHANNEL, "a 2 running Running")
        await feed.publish(CHANNEL, "b 2 running Running")
        await asyncio.wait_for(marker.wait(), 5)
    assert not changed.is_set()
    assert not events._watchers


async def test_a_lost_connection_wakes_everybody_and_the_feed_goes_on(settings: Settings) -> None:
    async with open_redis(settings) as redis:
        events = Events(redis, CHANNEL)
        async with beside(events.run()):
            await asyncio.wait_for(events.subscribed.wait(), 5)
            with events.watch("a") as changed:
                await redis.client_kill_filter(_type="pubsub")
                await asyncio.wait_for(changed.wait(), 5)
                changed.clear()
                await redis.publish(CHANNEL, "a 2 running Running")
                await asyncio.wait_for(changed.wait(), 5)
