"""Changes of stored records: what the store refuses, what it takes twice, and what it forgets."""

from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.records import claim, make_record
from tests.support.redis_servers import Server
from tracker import Operation
from tracker.domain import blame, lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import ConfigurationError, Refused, Unavailable
from tracker.store.script_constants import PROBE_AFTER
from tracker.store.store import Store


async def running(store: Store, **fields: Any) -> Record:
    record, _ = await store.create(make_record(**fields))
    return await claim(store, record)


async def test_waiting_for_a_worker_does_not_use_up_the_tickets_that_may_vanish(store: Store, clock: Clock) -> None:
    record, _ = await store.create(make_record())
    for _ in range(2 * len(lifecycle.VANISH_BACKOFF)):
        assert (await claim(store, record, types=("contoso.other",))).stage is Stage.PARKED
        await clock.advance(PROBE_AFTER + 1)
        await store.overdue(10)
        [record] = await store.read([record.key])
        assert record.stage is Stage.QUEUED
    assert record.vanished == 0
    assert lifecycle.vanish(record).stage is Stage.DELAYED


async def test_a_renewed_lease_is_not_lost_when_a_cancel_is_pending(store: Store, clock: Clock) -> None:
    record = await running(store)
    seen = await store.apply(lifecycle.request_cancel(record))
    await clock.advance(11)
    decided = blame.lose(seen)
    await store.beat([(record.key, record.attempt)])
    with pytest.raises(Refused):
        await store.apply(decided)


async def test_an_id_whose_record_redis_expired_can_be_used_again(store: Store) -> None:
    """The safety net took the record: nobody swept for a day after its retention."""
    record = await running(store, id="mine", client_context="c")
    await store.apply(lifecycle.succeed(record, DONE, {}))
    await store.redis.delete(store.keys.operation(record.key))
    assert await store.expire(10) == (0, 0)
    _, new = await store.create(make_record(id="mine"))
    assert new


async def test_a_repeated_change_whose_answer_was_lost_is_the_same_change(store: Store) -> None:
    """The client sends a broken connection's command again: a delete answers 410, an outcome looks refused."""
    change = lifecycle.succeed(await running(store), DONE, {})
    first = await store.apply(change)
    assert await store.apply(change) == first


async def test_a_store_whose_server_became_a_replica_is_unavailable(away: Server) -> None:
    await away.go_away("read only")
    with pytest.raises(Unavailable):
        await away.store.create(make_record())


async def test_a_type_is_found_by_workers_as_it_is_found_by_the_api(store: Store) -> None:
    """Lua's lower() knows ASCII only: such a name is refused when it is declared, or claimed."""
    try:

        class Umlaut(Operation, type="#review.Übersetzung"):
            pass
    except ConfigurationError:
        return
    record, _ = await store.create(make_record(type=Umlaut.odata_type))
    assert (await claim(store, record)).stage is Stage.RUNNING
