"""`Retry-After`: how it is estimated from the run times and the queues that a process has seen."""

from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.api_client import COLLECTION, Api
from tests.support.records import claim, make_record
from tests.support.waiting import eventually
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, SECOND
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.events.hub import EventHub
from tracker.retry_after import LEARNT_AT_ONCE, MOST_TYPES, RetryAfterEstimator
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.store.store import Store

KEY = "a" * 32
SLOW = "#Contoso.slow"
NOW = 1_790_000_000.0
"""The time, in seconds since 1970."""


@pytest.fixture
def pace(store: Store, monkeypatch: pytest.MonkeyPatch) -> RetryAfterEstimator:
    """An estimator whose time stands still."""
    estimator = RetryAfterEstimator(store)
    monkeypatch.setattr(estimator, "_now", lambda: NOW)
    return estimator


def ended(seconds: float, name: str = SLOW, **more: Any) -> str:
    end = 1_000_000_000
    canceled = ',"c":1' if more else ""
    return f'{KEY}\tc\t[3,"completed",1,{end},{{"b":{end - round(seconds * SECOND)},"k":"{name}"{canceled}}}]'


def running(seconds: float) -> Record:
    """One that has run for so long."""
    return make_record(stage=Stage.RUNNING, began=round((NOW - seconds) * SECOND), type=SLOW)


def waiting(**fields: Any) -> Record:
    return make_record(stage=Stage.QUEUED, type=SLOW, **fields)


async def filled(redis: Redis, store: Store, *tickets: int, lane: str = "default") -> None:
    await redis.rpush(store.keys.queue(lane), *(f"{KEY}-{ticket}" for ticket in tickets))


def test_the_default_is_one_second(pace: RetryAfterEstimator) -> None:
    assert pace.retry_after(waiting(ticket=1)) == 1
    assert pace.retry_after(running(2)) == 1


@pytest.mark.parametrize(("ran", "said"), [(0, 20), (15, 5), (19.9, 2), (100, 10), (100_000, 60)])
def test_a_running_operation_is_expected_to_take_the_usual_time_of_its_type(
    pace: RetryAfterEstimator, ran: float, said: int
) -> None:
    pace.learn([ended(20)])
    assert pace.retry_after(running(ran)) == said


def test_a_types_name_counts_whatever_its_case_and_other_types_do_not(pace: RetryAfterEstimator) -> None:
    pace.learn([ended(30), ended(5, "#other")])
    assert pace.retry_after(make_record(type="contoso.SLOW")) == 30
    assert pace.retry_after(make_record(type="#other")) == 5


def test_newer_run_times_count_more_and_canceled_ones_not_at_all(pace: RetryAfterEstimator) -> None:
    pace.learn([ended(10), ended(20)])
    assert pace.retry_after(waiting()) == 12
    pace.learn([ended(60, canceled=True)])
    assert pace.retry_after(waiting()) == 12


async def test_of_many_ends_at_once_only_a_few_are_learnt_from(pace: RetryAfterEstimator) -> None:
    pace.learn([ended(10)] * LEARNT_AT_ONCE)
    pace.learn([ended(50)])
    assert pace.retry_after(waiting()) == 10
    await pace.look(1.0)
    pace.learn([ended(60)])
    assert pace.retry_after(waiting()) == 20


async def test_types_are_forgotten_before_they_are_too_many(pace: RetryAfterEstimator) -> None:
    pace.learn([ended(10)])
    for number in range(MOST_TYPES):
        pace._learn(f"type{number}", SECOND)
    assert len(pace._usual) == MOST_TYPES
    assert pace.retry_after(waiting()) == 1


@pytest.mark.parametrize(
    "line",
    ["", "x", f'{KEY}\t"k":\t[1,"running",1,1]', f'{KEY}\tc\t[1,"failed",0,1,{{"k":"#a"}}]', f'{KEY}\tc\t["k":'],
)
def test_lines_that_teach_nothing_do_no_harm(pace: RetryAfterEstimator, line: str) -> None:
    pace.learn([line])
    assert pace.retry_after(waiting()) == 1


async def test_a_waiting_operation_is_expected_after_those_before_it(
    pace: RetryAfterEstimator, store: Store, redis: Redis
) -> None:
    await filled(redis, store, *range(101, 301))
    await pace.look(1.0)
    pace.learn([ended(0.1)] * 10)
    await pace.look(1.0)
    assert pace.retry_after(waiting(ticket=301)) == 21, "two hundred at ten a second, and then itself"
    assert pace.retry_after(waiting(ticket=151)) == 6, "its ticket says where it stands"
    assert pace.retry_after(waiting(ticket=101)) == 1
    assert pace.retry_after(waiting(ticket=5000)) == 21, "no more than there are"
    assert pace.retry_after(waiting(ticket=301, policy=Policy(priority="high"))) == 1, "its own lane counts"


async def test_an_operation_is_expected_after_the_turns_of_the_tenants_before_it(
    pace: RetryAfterEstimator, store: Store
) -> None:
    flooding = [(await store.create(make_record(type=SLOW, tenant="flood")))[0] for _ in range(200)]
    own = [(await store.create(make_record(type=SLOW, tenant="own")))[0] for _ in range(20)]
    pace.learn([ended(0.1)] * 10)
    await pace.look(1.0)
    pace.learn([ended(0.1)] * 10)
    await pace.look(1.0)
    assert pace.retry_after(own[0]) == 1, "it is the first of its tenant"
    assert pace.retry_after(own[15]) == 4, "fifteen of its own, and as many of the other, at ten a second"
    assert pace.retry_after(flooding[-1]) == 23, "no more than there are"
    weighted = RetryAfterEstimator(store, {"own": 4})
    weighted.learn([ended(0.1)] * 10)
    await weighted.look(1.0)
    assert weighted._lanes["default"].ahead(own[15], weighted._weights) == 19, "five turns for each four of its own"
    newcomer = make_record(type=SLOW, tenant="new", stage=Stage.QUEUED, ticket=500)
    assert pace.retry_after(newcomer) == 1


async def test_entries_that_are_stale_are_not_waited_for(pace: RetryAfterEstimator, store: Store) -> None:
    [first, *canceled, last] = [(await store.create(make_record(type=SLOW)))[0] for _ in range(102)]
    for record in canceled:
        await store.apply(lifecycle.request_cancel(record))
    pace.learn([ended(0.1)] * 10)
    await pace.look(1.0)
    assert pace._lanes["default"].ahead(last, {}) == 2, "two tickets are in the queue"
    assert first.ticket < last.ticket


async def test_an_idle_hour_says_nothing_of_how_fast_workers_are(
    pace: RetryAfterEstimator, store: Store, redis: Redis
) -> None:
    pace.learn([ended(0.1)] * 10)
    for _ in range(100):
        await pace.look(1.0)
    await filled(redis, store, *range(1, 101))
    await pace.look(1.0)
    assert pace.retry_after(waiting(ticket=101)) == 11
    for _ in range(30):
        await pace.look(1.0)
    assert pace.retry_after(waiting(ticket=101)) == 60, "there is work, and nothing ends"


async def test_a_head_that_is_no_ticket_says_nothing(pace: RetryAfterEstimator, store: Store, redis: Redis) -> None:
    await redis.rpush(store.keys.queue(), "foreign", f"{KEY}-7")
    pace.learn([ended(0.1)])
    await pace.look(1.0)
    await pace.look(1.0)
    assert pace.retry_after(waiting(ticket=8)) == 1
    await redis.delete(store.keys.queue())


def test_a_delayed_operation_is_expected_when_it_is_due(pace: RetryAfterEstimator) -> None:
    due = round((NOW + 30) * SECOND)
    assert pace.retry_after(make_record(stage=Stage.DELAYED, not_before=due)) == 30
    assert pace.retry_after(make_record(stage=Stage.DELAYED, not_before=due + 3600 * SECOND)) == 60


async def test_a_process_learns_from_the_events_that_it_receives(
    redis: Redis, store: Store, pace: RetryAfterEstimator
) -> None:
    events = EventHub(redis, store.keys.events, Budgets(Settings()))
    events.on_ends = pace.learn
    async with beside(events.run()):
        await eventually(subscribed(events))
        record = await claim(store, (await store.create(make_record(type=SLOW)))[0])
        await store.apply(lifecycle.succeed(record, DONE, {}))

        async def learnt() -> bool:
            return pace._usual.get("contoso.slow", 0) > 0

        await eventually(learnt)


def subscribed(events: EventHub) -> Any:
    async def check() -> bool:
        return events.subscribed.is_set()

    return check


async def test_every_answer_about_what_has_not_ended_says_when_to_ask_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryAfterEstimator, "retry_after", lambda *_: 7)
    created = await api.post(json={})
    path = f"{COLLECTION}/{created.json['id']}"
    monitor = f"/operations/{created.json['id']}"
    answers = [created, await api.get(path), await api.get(monitor)]
    answers.append(await api.get(path, headers={"If-None-Match": created.headers["ETag"]}))
    assert [(answer.status, answer.headers["Retry-After"]) for answer in answers] == [
        (201, "7"),
        (200, "7"),
        (200, "7"),
        (304, "7"),
    ]
    canceled = await api.post(f"{path}/cancel")
    ended = [canceled, await api.get(path), await api.get(monitor)]
    assert not any("Retry-After" in answer.headers for answer in ended)


async def test_a_queue_at_which_nothing_ends_for_an_hour_has_an_answer_all_the_same(
    pace: RetryAfterEstimator, redis: Redis, store: Store
) -> None:
    await filled(redis, store, *range(1, 10))
    pace.learn([ended(1)] * 10)
    for _ in range(4000):  # by then what ends in a second is too little for a number
        await pace.look(1.0)
    assert pace.retry_after(waiting(ticket=9)) == 60


def test_only_ends_are_counted_whatever_the_name_of_a_call(pace: RetryAfterEstimator) -> None:
    changed = f'{KEY}\tc\t[4,"completed",1,1000000000,{{"k":"{SLOW}"}}]'
    queued = f'{KEY}\tx"b":y\t[1,"queued",0,1000000000]'
    pace.learn([changed, queued])
    assert pace._ended == 0
    pace.learn([ended(1)])
    assert pace._ended == 1
