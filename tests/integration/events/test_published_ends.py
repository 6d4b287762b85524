"""A published end is enough for a waiter that knows the operation, or it says that the record must be read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random

import pytest
from redis.asyncio import Redis

from tests.support.clock import Clock
from tests.support.pubsub import Subscription, subscribed
from tests.support.records import claim, make_record
from tests.support.scheduling import chance
from tests.support.waiting import LONGEST_WAIT, eventually
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.events.feed import record_after_end
from tracker.service import Caller, open_operations
from tracker.store.script_constants import LARGEST_PUBLISHED_RESULT
from tracker.store.store import Store

ONE_TRY = Policy(attempts=1, retention=10.3, tombstone=1.7)
LONG = "x" * LARGEST_PUBLISHED_RESULT


class Lines:
    """What is published of operations."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def last(self) -> str:
        """The last line until now."""
        return (await self._subscription.texts())[-1].rpartition("\n")[2]


@pytest.fixture
async def lines(redis: Redis, store: Store) -> AsyncIterator[Lines]:
    async with subscribed(redis, store.keys.events) as subscription:
        yield Lines(subscription)


def shown(record: Record) -> Record:
    """A record without what no client is shown."""
    return record._replace(worker="", charged=0, rq=False, vanished=0, blocker="", ticket=0)


ENDS: dict[str, Callable[[Record], Change]] = {
    "well": lambda seen: lifecycle.succeed(seen, DONE, {}),
    "with results": lambda seen: lifecycle.succeed(seen, DONE, {"answer": 42, "own": "ü\t\n", "list": [1.5, None]}),
    "rejected": lambda seen: lifecycle.reject(seen, ResultInfo(code=-400, subcode=7, message='"no"\n'), {"why": {}}),
    "failed": lambda seen: lifecycle.fail(seen, ResultInfo(code=500, subcode=1, message="gone"), {}),
    "lost": lambda seen: lifecycle.fail(seen, ResultInfo(code=503), {}, again=False),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("own_id", [False, True])
async def test_an_end_has_everything_that_a_client_is_shown(
    store: Store, clock: Clock, lines: Lines, end: str, own_id: bool
) -> None:
    fields = {"id": "mine"} if own_id else {}
    members = {"own": 1, "given": [{}]}
    created, _ = await store.create(make_record(members=members, policy=ONE_TRY, client_context="a\tb", **fields))
    await clock.advance(1)
    running = await claim(store, created)
    await clock.advance(2)
    stored = await store.apply(ENDS[end](running))
    line = await lines.last()
    for known in (created, running):
        told = record_after_end(known, line)
        assert told is not None
        assert shown(told) == shown(stored)


async def test_a_cancel_that_was_known_before_is_part_of_the_end(store: Store, lines: Lines) -> None:
    created, _ = await store.create(make_record())
    asked = await store.apply(lifecycle.request_cancel(await claim(store, created), "enough"))
    stored = await store.apply(lifecycle.cancel(asked, members={"so": "far"}))
    line = await lines.last()
    told = record_after_end(asked, line)
    assert told is not None
    assert shown(told) == shown(stored)
    assert record_after_end(created, line) is None, "it knows nothing of the cancel, nor of who asked for it"


@pytest.mark.parametrize(
    "change",
    [
        lambda seen: lifecycle.progress(seen, 5, "on its way"),
        lambda seen: lifecycle.patch(seen, {"client_context": "other"}),
        lifecycle.request_cancel,
    ],
)
async def test_a_waiter_that_missed_a_change_before_the_end_reads_the_record(
    store: Store, lines: Lines, change: Callable[[Record], Change]
) -> None:
    created, _ = await store.create(make_record())
    running = await claim(store, created)
    changed = await store.apply(change(running))
    stored = await store.apply(lifecycle.succeed(changed, DONE, {}))
    line = await lines.last()
    assert record_after_end(created, line) is record_after_end(running, line) is None
    told = record_after_end(changed, line)
    assert told is not None
    assert shown(told) == shown(stored)


@pytest.mark.parametrize(
    "end",
    [
        lambda seen: lifecycle.succeed(seen, DONE, {"long": LONG}),
        lambda seen: lifecycle.reject(seen, ResultInfo(code=400, message=LONG), {}),
        lifecycle.hide,
        lifecycle.hand_back,
        lambda seen: lifecycle.fail(seen, ResultInfo(code=500), {}),
    ],
)
async def test_long_records_and_changes_that_are_no_ends_are_not_published_whole(
    store: Store, lines: Lines, end: Callable[[Record], Change]
) -> None:
    created, _ = await store.create(make_record())
    running = await claim(store, created)
    await store.apply(end(running))
    line = await lines.last()
    assert record_after_end(created, line) is record_after_end(running, line) is None


async def test_an_end_without_an_attempt_must_be_read(store: Store, lines: Lines) -> None:
    created, _ = await store.create(make_record())
    await store.apply(lifecycle.cancel(created))
    assert record_after_end(created, await lines.last()) is None


@pytest.mark.parametrize("line", ["", "x", "k\tc\t", "k\tc\t{}", "k\tc\t[3]", 'k\tc\t[2,"completed",1,5,{"r":{}}]'])
def test_a_line_of_another_form_must_be_read(line: str) -> None:
    assert record_after_end(make_record(revision=1, stage=Stage.QUEUED), line) is None


def step(seen: Record, choose: Random) -> Change:
    """Any change that a running or waiting operation may meet."""
    if seen.stage is not Stage.RUNNING:
        return choose.choice((lifecycle.patch(seen, {"client_context": f"{choose.random()}"}), lifecycle.cancel(seen)))
    changes: list[Callable[[], Change]] = [
        lambda: lifecycle.progress(seen, choose.randrange(100), "so far"),
        lambda: lifecycle.patch(seen, {"members": {"a": choose.random()}}),
        lambda: lifecycle.request_cancel(seen, "why"),
        lambda: lifecycle.fail(seen, ResultInfo(code=500), {"x": 1}, after=0),
        lambda: lifecycle.hand_back(seen),
        *(partial(end, seen) for end in ENDS.values()),
    ]
    return choose.choice(changes)()


async def test_from_any_earlier_record_an_end_gives_the_stored_record_or_nothing(store: Store, lines: Lines) -> None:
    """Random lives: the line of the end, over each record that there was on the way."""
    choose, told = chance(), 0
    for _ in range(60):
        record, _ = await store.create(make_record(members={"a": 1}))
        seen = [record]
        while record.stage not in {Stage.COMPLETED, Stage.FAILED}:
            if record.stage is Stage.QUEUED and choose.random() < 0.8:
                record = await claim(store, record)
            elif record.stage is Stage.DELAYED:
                record = await store.apply(lifecycle.due(record))
            elif not record.cancel_requested or record.stage is not Stage.RUNNING:
                record = await store.apply(step(record, choose))
            else:
                record = await store.apply(lifecycle.cancel(record))
            seen.append(record)
        line = await lines.last()
        for known in seen[:-1]:
            if (known_end := record_after_end(known, line)) is not None:
                told += 1
                assert shown(known_end) == shown(record), (known, line)
    assert told


async def test_a_waiter_for_an_end_is_answered_without_a_read(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    find = Store.find

    async def note(self: Store, tenant: str, operation_id: str) -> Record:
        read.append(operation_id)
        return await find(self, tenant, operation_id)

    monkeypatch.setattr(Store, "find", note)
    caller = Caller("me", "test")
    async with asyncio.timeout(LONGEST_WAIT), open_operations(settings) as operations:
        events = operations._events

        async def waits() -> bool:
            return record.key in events.ends.waiting

        await events.subscribed.wait()
        position = operations.position
        record, _ = await operations.create(caller, "call-1", {"a": 1})
        waiting = asyncio.create_task(operations.wait_for_end(record, seconds=3600, since=position))
        running = await claim(store, record)
        await eventually(waits)
        stored = await store.apply(lifecycle.succeed(running, DONE, {"b": 2}))
        answer = await waiting
        assert (shown(answer), read) == (shown(stored), [])
        assert shown(await operations.get(caller, "call-1", record.id)) == shown(answer)
