"""Readers of events, while operations change and connections are lost at random."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from tests.support.feeds import stored_events
from tests.support.records import claim, make_record
from tests.support.waiting import LONGEST_WAIT, eventually
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Conflict
from tracker.events.feed import BEGINNING
from tracker.events.history import Feed
from tracker.events.hub import EventHub
from tracker.events.stream import Scope, Stream
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.store.connection import open_redis
from tracker.store.store import Store

CALLS = ("call-1", "call-2")
Seen = list[tuple[str, int]]


@pytest.fixture
async def lines(settings: Settings) -> AsyncIterator[Redis]:
    """A client of its own for the subscription, whose connections are lost."""
    async with open_redis(settings) as client:
        yield client


async def change(store: Store, chance: random.Random, records: list[Record]) -> None:
    """One random step of one random operation."""
    if not records or chance.random() < 0.3:
        record, _ = await store.create(make_record(call_id=chance.choice(CALLS)))
        records.append(record)
        return
    at = chance.randrange(len(records))
    record = records[at]
    if record.stage is Stage.QUEUED:
        step = claim(store, record) if chance.random() < 0.8 else store.apply(lifecycle.request_cancel(record))
    elif chance.random() < 0.5:
        step = store.apply(lifecycle.progress(record, None, f"step {chance.random()}"))
    else:
        step = store.apply(lifecycle.succeed(record, DONE, {}))
    records[at] = await step
    if records[at].status.final:
        del records[at]


async def read(
    store: Store, events: EventHub, chance: random.Random, seen: Seen, begun: asyncio.Event, *, call_id: str | None
) -> None:
    """Read for ever, and now and then go away and come back."""
    resume = None
    while True:
        stream = Stream(store, events, Scope("test", call_id))
        left = chance.randrange(5, 60)
        async with aclosing(stream.items(resume)) as steps:
            async for chunk in steps:
                begun.set()
                for step in chunk:
                    assert not step.reset
                    resume = str(step.position)
                    if step.event is not None:
                        seen.append((step.event.key, step.event.revision))
                    left -= 1
                if left < 0:
                    break


@pytest.mark.parametrize("number", range(3))
async def test_every_change_is_read_once_and_in_order_whatever_is_lost(store: Store, lines: Redis, number: int) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}, number {number}")
    chance = random.Random(seed)
    await store.create(make_record(call_id="before"))
    events = EventHub(lines, store.keys.events, Budgets(Settings()))
    seen: dict[str | None, Seen] = {None: [], CALLS[0]: [], CALLS[1]: []}
    feed = Feed(store.redis, store.keys.feed("test"), store.feed_length)
    begun = await feed.end()
    gates = [asyncio.Event() for _ in seen]
    readers = [
        read(store, events, chance, found, gate, call_id=call_id)
        for (call_id, found), gate in zip(seen.items(), gates, strict=True)
    ]
    async with beside(events.run()), asyncio.timeout(LONGEST_WAIT), beside(*readers):
        await asyncio.gather(events.subscribed.wait(), *(gate.wait() for gate in gates))
        records: list[Record] = []
        for _ in range(300):
            try:
                await change(store, chance, records)
            except Conflict:
                raise AssertionError(f"seed {seed}") from None
            if chance.random() < 0.05:
                await store.redis.client_kill_filter(_type="pubsub")
        told = await stored_events(feed, begun)
        expected = {
            call_id: [(event.key, event.revision) for event in told if call_id in {None, event.call_id}]
            for call_id in seen
        }

        async def all_read() -> bool:
            return all(len(seen[call_id]) >= len(expected[call_id]) for call_id in seen)

        await eventually(all_read)
    assert begun > BEGINNING
    assert seen == expected, f"seed {seed}"
