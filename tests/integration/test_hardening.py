"""Promises under rare conditions: failovers, lost answers, odd input."""

import asyncio
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from tests.clock import Clock
from tests.factories import claim, make_record
from tests.waiting import eventually
from tracker import Operation, Rejected, Retry
from tracker.api.auth import open_callers
from tracker.bodies.create import check_call_id, read_create
from tracker.config import Settings, load
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import OperationType, TypeRegistry, load_types
from tracker.errors import ConfigurationError, Invalid, Refused, Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.script_constants import PROBE_AFTER
from tracker.store.script_replies import Overdue
from tracker.store.store import Store


@pytest.fixture
def registry(settings: Settings) -> TypeRegistry:
    return load_types(settings.type_modules)


async def running(store: Store, **fields: Any) -> Record:
    record, _ = await store.create(make_record(**fields))
    return await claim(store, record)


# --- the lifecycle


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
    decided = lifecycle.lose(seen)
    await store.beat([(record.key, record.attempt)])
    with pytest.raises(Refused):
        await store.apply(decided)


# --- the record


def test_an_endless_retention_is_refused_at_start_or_can_be_stored() -> None:
    """Now it is accepted, and the script that ends the operation fails half-way: stage `running`, no lease."""
    with pytest.raises(ValidationError):
        Settings(retention=math.inf)


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


# --- Redis refuses to write


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = start_server(tmp_path / "valkey")
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("TRACKER_TEST_CLOCK", "1")
    try:
        yield server.url
    finally:
        server.stop()


@pytest.mark.usefixtures("own_server")
async def test_a_server_that_became_a_replica_is_unavailable() -> None:
    settings = Settings()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        await redis.replicaof("127.0.0.1", 1)
        with pytest.raises(Unavailable):
            await store.create(make_record())


@pytest.mark.usefixtures("own_server")
async def test_the_sweeper_goes_on_after_a_failover() -> None:
    settings = Settings()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
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
            await eventually(lambda: redis.exists(store.keys.sweeper))
            await redis.replicaof("127.0.0.1", 1)
            await asyncio.wait_for(refused.wait(), 10)
            await redis.replicaof("NO", "ONE")
            await Clock(redis, store.keys.clock).advance(11)

            async def repaired() -> bool:
                return (await store.read([record.key]))[0].charged == 1

            await eventually(repaired, within=8)


async def test_one_record_that_cannot_be_read_does_not_stop_all_repairs(store: Store, clock: Clock) -> None:
    """A newer version's stage, say, during a rolling update."""
    strange, lost = await running(store), await running(store)
    await store.redis.hset(store.keys.operation(strange.key), "policy", "[1]")
    await clock.advance(11)

    async def repaired() -> bool:
        return (await store.read([lost.key]))[0].charged == 1

    async with beside(Sweeper(store, every=0.05).run()):
        await eventually(repaired, within=3)


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
        await asyncio.wait_for(met.wait(), 5)
        await clock.advance(11)
        away = False
        await asyncio.wait_for(swept.wait(), 5)
    await store.beat([(record.key, record.attempt)])
    assert (await store.read([record.key]))[0].charged == 0


# --- what clients and handlers say


def test_a_client_cannot_set_a_result_member_by_its_python_name(registry: TypeRegistry) -> None:
    body = {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "prompts": [{"mediaInfo": {"uri": "http://media/a.wav"}}],
        "completion_reason": "completedSuccessfully",
    }
    draft = read_create("call", body, registry)
    operation: Any = draft.type.model.from_members(draft.members, None)
    assert operation.completion_reason is None


def test_a_dynamic_member_may_have_the_python_name_of_a_declared_one(registry: TypeRegistry) -> None:
    assert read_create("call", {"client_context": 7}, registry).members == {"client_context": 7}


def test_a_call_id_holds_no_control_character() -> None:
    with pytest.raises(Invalid):
        check_call_id("a\x85b")


class _Strict(Operation, type="#review.strict"):
    when: datetime = Field(strict=True)


def test_what_was_accepted_at_create_can_be_rebuilt_for_its_handler() -> None:
    entry = OperationType("#review.strict", _Strict, None)
    members = entry.validate({"when": "2026-01-31T12:00:00Z"})
    assert _Strict.from_members(members, None).when.year == 2026


async def test_a_type_is_found_by_workers_as_it_is_found_by_the_api(store: Store) -> None:
    """Lua's lower() knows ASCII only: such a name is refused when it is declared, or claimed."""
    try:

        class Umlaut(Operation, type="#review.Übersetzung"):
            pass
    except ConfigurationError:
        return
    record, _ = await store.create(make_record(type=Umlaut.odata_type))
    assert (await claim(store, record)).stage is Stage.RUNNING


def test_a_rejection_with_a_long_message_is_still_a_rejection() -> None:
    assert Rejected("x" * 5000).result.code == 400


@pytest.mark.parametrize("after", [math.inf, math.nan, -1.0])
def test_a_retry_after_no_real_time_is_refused_where_it_is_raised(after: float) -> None:
    with pytest.raises((ConfigurationError, ValueError)):
        Retry(after=after)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_clients_take_out_of_a_path_is_refused(registry: TypeRegistry, name: str) -> None:
    with pytest.raises(Invalid):
        check_call_id(name)
    with pytest.raises(Invalid):
        read_create("call", {"id": name}, registry)


@pytest.mark.parametrize("url", ["redis://h:port/0", "redis://h:99999999/0", "http://h"])
def test_a_redis_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_redis(load())


def test_one_token_cannot_belong_to_two_tenants(settings: Settings) -> None:
    digest = "0" * 64
    lines = f"one:a:{digest}\ntwo:b:{digest}"
    with pytest.raises(ConfigurationError, match="line 2 gives two the token of one"):
        open_callers(settings.model_copy(update={"tokens": lines}))
