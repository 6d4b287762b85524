"""Script calls of many tasks in one round trip: their answers, their errors, and outages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import OutOfMemoryError, ResponseError

from tests.support.records import make_record
from tests.support.redis_servers import Server
from tests.support.waiting import LONGEST_WAIT, soon
from tracker.domain.record import Record
from tracker.errors import Conflict, Unavailable
from tracker.store.batching import EARLY_SEND_CALLS, MOST_EARLY_ROUND_TRIPS, MOST_TOGETHER, Batcher
from tracker.store.store import Store

PAUSE = 10 * 1000 * int(LONGEST_WAIT)
"""Milliseconds: longer than a test lasts. A pause of writes only lets the server take CLIENT UNPAUSE."""


@pytest.fixture
def pipeline(redis: Redis) -> Batcher:
    return Batcher(redis, within=LONGEST_WAIT)


@asynccontextmanager
async def paused(redis: Redis) -> AsyncIterator[None]:
    """The server runs no script until the block ends."""
    await redis.client_pause(PAUSE, all=False)
    try:
        yield
    finally:
        await redis.client_unpause()


def script(redis: Redis, text: str) -> AsyncScript:
    return redis.register_script(text)


def joined(pipeline: Batcher, script: AsyncScript, *words: str) -> asyncio.Future[list[Any]]:
    return pipeline.join(script, [], [[word] for word in words])


async def test_each_call_has_its_own_answer_or_error(redis: Redis, pipeline: Batcher) -> None:
    echo, fail = script(redis, "return ARGV[1]"), script(redis, "return redis.error_reply('ERR no')")
    answers = await asyncio.gather(
        pipeline.call(echo, [], ["a"]),
        pipeline.call(fail, [], []),
        pipeline.call(echo, [], ["b"]),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == ("a", "b")
    assert isinstance(answers[1], ResponseError)


async def test_a_shared_call_that_fails_fails_for_the_one_at_fault_alone(redis: Redis, pipeline: Batcher) -> None:
    """The script stops at the word `bad`, as a script stops at a key of the wrong type."""
    text = "for _, word in ipairs(ARGV) do if word == 'bad' then error('it is bad') end end return ARGV"
    echo = script(redis, text)
    answers = await asyncio.gather(
        joined(pipeline, echo, "a", "b"),
        joined(pipeline, echo, "c", "bad", "d"),
        joined(pipeline, echo, "e"),
        return_exceptions=True,
    )
    assert (answers[0], answers[2]) == (["a", "b"], ["e"])
    assert isinstance(answers[1], ResponseError)
    assert "it is bad" in str(answers[1])


async def test_a_shared_call_that_nobody_can_serve_is_not_repeated(redis: Redis, pipeline: Batcher) -> None:
    full = script(redis, "redis.call('INCR', 'rq:queue:test') return redis.error_reply('OOM command not allowed')")
    answers = await asyncio.gather(joined(pipeline, full, "a"), joined(pipeline, full, "b"), return_exceptions=True)
    assert all(isinstance(answer, OutOfMemoryError) for answer in answers)
    assert await redis.get("rq:queue:test") == "1"
    await redis.delete("rq:queue:test")


async def test_calls_of_one_turn_are_run_in_their_order(redis: Redis, pipeline: Batcher) -> None:
    push = script(redis, "return redis.call('RPUSH', KEYS[1], ARGV[1])")
    lengths = await asyncio.gather(*(pipeline.call(push, ["rq:queue:test"], [str(n)]) for n in range(EARLY_SEND_CALLS)))
    assert lengths == list(range(1, EARLY_SEND_CALLS + 1))
    await redis.delete("rq:queue:test")


async def test_a_thousand_calls_of_one_turn_are_several_round_trips(redis: Redis, pipeline: Batcher) -> None:
    echo = script(redis, "return ARGV[1]")
    calls = [asyncio.ensure_future(pipeline.call(echo, [], [str(number)])) for number in range(1000)]
    await asyncio.sleep(0)
    assert len(pipeline._sending) == MOST_EARLY_ROUND_TRIPS + -(
        -(1000 - MOST_EARLY_ROUND_TRIPS * EARLY_SEND_CALLS) // MOST_TOGETHER
    )
    assert await asyncio.gather(*calls) == [str(number) for number in range(1000)]
    assert not pipeline._sending


async def test_a_round_trip_that_nobody_waits_for_any_more_ends(redis: Redis, pipeline: Batcher) -> None:
    """Else it would go on, and connect anew, after its client has been closed."""
    echo = script(redis, "return ARGV[1]")
    await pipeline.call(echo, [], ["loaded"])
    async with paused(redis):
        calls = [pipeline.call(echo, [], [letter]) for letter in "ab"]
        await asyncio.sleep(0.05)
        [trip] = pipeline._sending
        calls[0].cancel()
        pipeline.leave()
        await asyncio.sleep(0.05)
        assert not trip.done()
        calls[1].cancel()
        pipeline.leave()
        await soon(asyncio.wait({trip}))
        assert trip.cancelled()
        assert not pipeline._sending


async def test_a_round_trip_that_takes_too_long_is_ended_for_all_who_wait(redis: Redis, pipeline: Batcher) -> None:
    impatient = Batcher(redis, within=0.1)
    echo = script(redis, "return ARGV[1]")
    await pipeline.call(echo, [], ["loaded"])
    async with paused(redis):
        calls = [impatient.call(echo, [], [letter]) for letter in "ab"]
        outcomes = await soon(asyncio.gather(*calls, return_exceptions=True))
        assert [type(outcome) for outcome in outcomes] == [TimeoutError, TimeoutError]
        assert not impatient._sending
    assert await pipeline.call(echo, [], ["c"]) == "c", "the answers that came too late are nobody's"


async def test_a_read_that_is_given_up_ends_its_round_trip(store: Store) -> None:
    record, _ = await store.create(make_record())
    pipeline = store._scripts.read_by_public_id._pipeline
    async with paused(store.redis):
        reads = [asyncio.ensure_future(store.find(record.tenant, record.id)) for _ in range(2)]
        await asyncio.sleep(0.05)
        [trip] = pipeline._sending
        for read in reads:
            read.cancel()
        await soon(asyncio.wait({trip, *reads}))
        assert trip.cancelled()


async def test_a_call_that_was_given_up_before_it_was_sent_is_not_sent(redis: Redis, pipeline: Batcher) -> None:
    push = script(redis, "return redis.call('RPUSH', KEYS[1], ARGV[1])")
    pipeline.call(push, ["rq:queue:test"], ["a"]).cancel()
    assert await pipeline.call(script(redis, "return 1"), [], []) == 1
    assert await redis.exists("rq:queue:test") == 0


async def test_what_is_asked_of_a_script_in_one_turn_is_one_call_of_it(redis: Redis, pipeline: Batcher) -> None:
    x, y = (
        script(redis, f"local a = {{}} for i, w in ipairs(ARGV) do a[i] = '{letter}' .. w .. #ARGV end return a")
        for letter in "xy"
    )
    asked = [(x, "12"), (y, "3"), (x, "4")]
    answers = [joined(pipeline, tell, *words) for tell, words in asked]
    assert await asyncio.gather(*answers) == [["x13", "x23"], ["y31"], ["x43"]]
    assert await joined(pipeline, x, "5") == ["x51"]


async def test_so_many_questions_are_sent_while_others_are_still_being_put(redis: Redis, pipeline: Batcher) -> None:
    count = script(redis, "local a = {} for i in ipairs(ARGV) do a[i] = #ARGV end return a")
    answers = await asyncio.gather(*(joined(pipeline, count, *"www") for _ in range(EARLY_SEND_CALLS + 2)))
    assert answers == [[3 * EARLY_SEND_CALLS] * 3] * EARLY_SEND_CALLS + [[6] * 3] * 2


async def test_a_call_that_many_join_takes_a_hundred_at_most_and_no_question_is_split(
    redis: Redis, pipeline: Batcher
) -> None:
    count = script(redis, "local a = {} for i in ipairs(ARGV) do a[i] = #ARGV end return a")
    answers = await asyncio.gather(*(joined(pipeline, count, *"w" * (MOST_TOGETHER // 3)) for _ in range(4)))
    assert [set(answer) for answer in answers] == [{MOST_TOGETHER // 3 * 3}] * 3 + [{MOST_TOGETHER // 3}]


async def test_a_failed_call_fails_all_that_joined_it_and_a_canceled_caller_affects_no_other(
    redis: Redis, pipeline: Batcher
) -> None:
    fail, echo = script(redis, "return redis.error_reply('ERR no')"), script(redis, "return ARGV")
    failed = await asyncio.gather(*(joined(pipeline, fail, "w") for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [ResponseError] * 2
    first, second = joined(pipeline, echo, "a"), joined(pipeline, echo, "b")
    first.cancel()
    assert await second == ["b"]


async def test_a_caller_that_gives_up_affects_no_other(redis: Redis, pipeline: Batcher) -> None:
    echo = script(redis, "return ARGV[1]")
    first = asyncio.ensure_future(pipeline.call(echo, [], ["a"]))
    second = asyncio.ensure_future(pipeline.call(echo, [], ["b"]))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "b"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_creates_of_one_turn_are_judged_one_by_one(store: Store) -> None:
    records = [make_record(id="same", digest=digest) for digest in ("a", "a", "b")]
    new, again, other = await asyncio.gather(*(store.create(record) for record in records), return_exceptions=True)
    assert isinstance(new, tuple)
    assert isinstance(again, tuple)
    assert (new[1], again[1], again[0]) == (True, False, new[0])
    assert isinstance(other, Conflict)


async def test_an_outage_fails_every_call_of_a_turn(away: Server) -> None:
    async def create(record: Record) -> None:
        await away.store.create(record)

    await away.go_away("killed")
    failed = await asyncio.gather(*(create(make_record()) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in failed] == [Unavailable] * 3
    await away.come_back("killed")
