"""The sweeper beside an outage, a failover, and a record that cannot be read."""

import asyncio
from typing import Any

from tests.support.clock import Clock
from tests.support.records import claim, make_record
from tests.support.redis_servers import Server
from tests.support.waiting import eventually, soon
from tracker.config import Settings
from tracker.domain.record import Record
from tracker.errors import Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
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
