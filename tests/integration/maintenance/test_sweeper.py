"""The sweeper beside an outage, a failover, and a record that cannot be read."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.log_lines import lines_of
from tests.support.records import claim, make_record
from tests.support.redis_servers import Server
from tests.support.waiting import eventually, soon
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.log import configure
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.store.batching import MOST_TOGETHER
from tracker.store.create_args import CreateArgs
from tracker.store.script_replies import Overdue
from tracker.store.store import Store


async def running(store: Store, **fields: Any) -> Record:
    record, _ = await store.create(make_record(**fields))
    return await claim(store, record)


async def test_the_sweeper_goes_on_after_a_failover(away: Server) -> None:
    store = away.store
    record = await running(store)
    refused = asyncio.Event()

    class Watched(Sweeper):
        async def _has_lock(self) -> bool:
            try:
                return await super()._has_lock()
            except Exception:
                refused.set()
                raise

    async with beside(Watched(store, every=0.05).run()):
        await eventually(lambda: store.redis.exists(store.keys.sweeper))
        await away.go_away("read only")
        await soon(refused.wait())
        await away.come_back("read only")
        await Clock(store.redis, store.keys.clock).advance(11)

        async def repaired() -> bool:
            return (await store.read([record.key]))[0].charged == 1

        await eventually(repaired)


async def test_a_full_server_is_freed_of_expired_records_though_the_lock_was_lost_in_a_restart(away: Server) -> None:
    store = away.store
    clock = Clock(store.redis, store.keys.clock)
    record = await running(store, policy=Policy(retention=60.0))
    await store.apply(lifecycle.succeed(record, DONE, {}))
    await clock.advance(61)
    await store.redis.config_set("maxmemory", "1")
    try:
        async with beside(Sweeper(store, every=0.05).run()):

            async def expired() -> bool:
                return (await store.read([record.key]))[0].stage is Stage.TOMBSTONE

            await eventually(expired)
    finally:
        await store.redis.config_set("maxmemory", "0")


async def test_a_foreign_job_at_the_head_of_a_queue_makes_no_ticket_behind_it_missing(store: Store) -> None:
    await store.create(make_record())
    await store.redis.lpush(store.keys.queue(), "ab-999999")
    await store.overdue(10)
    assert not await store.redis.exists(store.keys.suspects)


async def test_one_record_that_cannot_be_read_does_not_stop_all_repairs(store: Store, clock: Clock) -> None:
    """A newer version's stage, say, during a rolling update."""
    strange, lost = await running(store), await running(store)
    await store.redis.hset(store.keys.operation(strange.key), "policy", "[1]")
    await clock.advance(11)

    async def repaired() -> bool:
        return (await store.read([lost.key]))[0].charged == 1

    async with beside(Sweeper(store, every=0.05).run()):
        await eventually(repaired)


async def delayed(store: Store, count: int) -> list[Record]:
    """Operations that are delayed by a minute."""
    made = [CreateArgs(make_record(), delay=60.0) for _ in range(count)]
    records = []
    for start in range(0, count, MOST_TOGETHER):
        for created in await store.create_each(made[start : start + MOST_TOGETHER]):
            assert not isinstance(created, Exception)
            records.append(created[0])
    return records


async def test_operations_that_are_due_together_are_queued_in_batches(store: Store, clock: Clock) -> None:
    records = await delayed(store, 1000)
    await clock.advance(61)
    await Sweeper(store).sweep()  # loads the scripts
    before = (await store.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await Sweeper(store).sweep()
    scripts = (await store.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before
    assert scripts < 10, "not one for each operation"
    assert {record.stage for record in await store.read(record.key for record in records)} == {Stage.QUEUED}
    await assert_consistent(store)


async def test_a_change_that_cannot_be_written_stops_none_of_its_batch(
    store: Store, settings: Settings, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(settings)
    bad, *good = await delayed(store, 3)
    await clock.advance(61)

    class Failing(Store):
        async def apply_each(self, changes: Sequence[Change]) -> list[Record | Exception]:
            if any(change.seen.key == bad.key for change in changes):
                raise ResponseError("Error running script")
            return await super().apply_each(changes)

    sweeper = Sweeper(Failing(store.redis, settings))
    swept = [await sweeper.sweep() for _ in range(2)]
    assert [each.due for each in swept] == [2, 0], "the one at fault is left aside for a while"
    [line] = lines_of(capsys, "sweep_failed")
    assert line["operation_id"] == bad.id
    assert {record.stage for record in await store.read(record.key for record in good)} == {Stage.QUEUED}


async def test_an_outage_charges_no_attempt_whose_worker_is_well(
    store: Store, settings: Settings, clock: Clock
) -> None:
    """Nobody could beat while Redis was away; the first sweep after it comes before the next beats."""
    away, met, swept = True, asyncio.Event(), asyncio.Event()

    class Flaky(Store):
        async def overdue(self, limit: int) -> Overdue:
            if away:
                met.set()
                raise Unavailable("away")
            return await super().overdue(limit)

        async def expire(self, limit: int) -> tuple[int, int]:
            swept.set()
            return await super().expire(limit)

    record = await running(store)
    async with beside(Sweeper(Flaky(store.redis, settings), every=0.05).run()):
        await soon(met.wait())
        await clock.advance(11)
        away = False
        await soon(swept.wait())
    await store.beat([(record.key, record.attempt)])
    assert (await store.read([record.key]))[0].charged == 0
