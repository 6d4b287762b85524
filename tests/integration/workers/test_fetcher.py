"""The fetcher and leases in rare cases: late and lost replies, unreadable records, faults of RQ's keys.

A worker's manager runs in the test's own process, over a store that can hold or lose an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.executors import registry
from tests.support.handler_files import began, exists, let_go
from tests.support.waiting import LONGEST_WAIT, eventually, soon
from tests.support.worker_processes import create, final, now
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.runtime.background import end
from tracker.store.script_constants import WINDOW
from tracker.store.script_replies import ClaimReply, Room
from tracker.store.store import Store
from tracker.store.worker_registry import KNOWN_FOR, WorkerRegistry
from workers import heartbeat, pool
from workers.executor import Executor
from workers.fetcher import MAX_BATCH, MIN_BATCH, QUEUE_SHARE
from workers.fork_server import ForkServer
from workers.handler_rooms import kinds_of
from workers.manager import Manager, StopConditions, WorkerIdentity

TYPES = ("waits", "works", "dies")


class Gated(Store):
    """Holds the first claim, before or after Redis has done it, until `gate` is set; then `loses` may lose it."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.loses = ""
        self.held, self.gate = asyncio.Event(), asyncio.Event()

    async def claim(self, *about: Any, **options: Any) -> ClaimReply:
        if self.held.is_set():
            return await super().claim(*about, **options)
        claims = None if self.loses == "question" else await super().claim(*about, **options)
        self.held.set()
        await self.gate.wait()
        if claims is None or self.loses:
            raise Unavailable(f"the {self.loses} is lost")
        return claims


class Noted(Store):
    """Notes what every claim had room for, and what it left waiting."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.claims: list[tuple[int, int]] = []

    async def claim(self, worker: str, room: Room, **options: Any) -> ClaimReply:
        claims = await super().claim(worker, room, **options)
        self.claims.append((room.coroutines, claims.waiting))
        return claims


@pytest.fixture
def gated(store: Store, settings: Settings) -> Gated:
    return Gated(store.redis, settings)


@asynccontextmanager
async def running_manager(
    store: Store,
    fork_server: ForkServer,
    settings: Settings,
    directory: Path,
    *,
    concurrency: int = 5,
    processes: int = 1,
    burst: bool = False,
) -> AsyncIterator[tuple[Manager, asyncio.Task[bool]]]:
    """A manager, and its life, whose result is whether it ended well."""
    changes = {"worker_concurrency": concurrency, "worker_processes": processes, "spool_dir": directory / "spool"}
    identity = WorkerIdentity("w", "rq:worker:w", "rq:pubsub:w", ["rq:workers"], {})
    mine = settings.model_copy(update=changes)
    manager = Manager(store, registry(*TYPES), fork_server, mine, identity, StopConditions(burst=burst))
    life = asyncio.create_task(manager.run())
    try:
        yield manager, life
    finally:
        life.cancel()
        # It closes its fork server meanwhile. To cancel it again would cut that short.
        await asyncio.wait({life}, timeout=LONGEST_WAIT)
        await end(life)


async def ended(life: asyncio.Task[bool]) -> bool:
    return await soon(life)


def outcome(record: Record) -> tuple[Stage, int, int]:
    return record.stage, record.attempt, record.charged


async def test_a_claim_is_larger_when_more_operations_wait(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path
) -> None:
    noted = Noted(store.redis, settings)
    for _ in range(240):
        await create(noted, "waits")

    async def all_claimed() -> bool:
        return bool(noted.claims) and noted.claims[-1][1] == 0

    async with running_manager(noted, fork_server, settings, directory, concurrency=300):
        await eventually(all_claimed)
    rooms, waiting = zip(*noted.claims, strict=True)
    assert rooms == (
        MIN_BATCH,
        *(max(MIN_BATCH, min(MAX_BATCH, left // QUEUE_SHARE)) for left in waiting[:-1]),
    )
    assert max(rooms) == MAX_BATCH
    assert rooms[-1] == MIN_BATCH


async def test_what_a_claim_brings_after_the_hand_back_is_handed_back(
    fork_server: ForkServer, gated: Gated, settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_back, hand_back = asyncio.Event(), Executor.hand_back

    def hands_back(executor: Executor) -> None:
        hand_back(executor)
        handed_back.set()

    monkeypatch.setattr(Executor, "hand_back", hands_back)
    records = [await create(gated, "waits") for _ in range(3)]
    async with running_manager(gated, fork_server, settings, directory) as (manager, life):
        await soon(gated.held.wait())
        manager.stop()
        manager.stop()
        await soon(handed_back.wait())
        gated.gate.set()
        assert await ended(life), "nothing was left"
    for record in records:
        assert outcome(await now(gated, record)) == (Stage.QUEUED, 1, 0)
        assert not exists(directory / f"{record.id}.began")


async def test_what_a_claim_took_whose_answer_was_lost_while_stopping_is_asked_for_again_and_done(
    fork_server: ForkServer, gated: Gated, settings: Settings, directory: Path
) -> None:
    gated.loses = "answer"
    let_go(directory)
    records = [await create(gated, "waits") for _ in range(3)]
    async with running_manager(gated, fork_server, settings, directory) as (manager, life):
        await soon(gated.held.wait())
        late = await create(gated, "waits")
        manager.stop()
        gated.gate.set()
        assert await ended(life), "nothing was left"
    for record in records:
        assert outcome(await now(gated, record)) == (Stage.COMPLETED, 1, 0)
    assert outcome(await now(gated, late)) == (Stage.QUEUED, 0, 0), "it claims no more"


async def test_a_claim_that_never_reached_redis_takes_nothing_when_it_is_repeated_while_stopping(
    fork_server: ForkServer, gated: Gated, settings: Settings, directory: Path
) -> None:
    gated.loses = "question"
    records = [await create(gated, "waits") for _ in range(3)]
    async with running_manager(gated, fork_server, settings, directory) as (manager, life):
        await soon(gated.held.wait())
        manager.stop()
        gated.gate.set()
        assert await ended(life), "nothing was left"
    for record in records:
        assert outcome(await now(gated, record)) == (Stage.QUEUED, 0, 0)


async def test_one_record_that_cannot_be_read_costs_those_claimed_with_it_nothing(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path
) -> None:
    let_go(directory)
    records = [await create(store, "waits") for _ in range(5)]
    poison = records.pop(2)
    await store.redis.hset(store.keys.operation(poison.key), "policy", '{"canceled":[499]}')
    async with running_manager(store, fork_server, settings, directory):
        for record in records:
            assert outcome(await final(store, record)) == (Stage.COMPLETED, 1, 0)
        later = await create(store, "waits")
        assert outcome(await final(store, later)) == (Stage.COMPLETED, 1, 0)


def lease_renewed(store: Store, record: Record, since: float) -> Callable[[], Any]:
    async def check() -> bool:
        ends = await store.redis.zscore(store.keys.leases, record.key)
        return ends is not None and float(ends) > since

    return check


async def test_a_fault_in_the_keys_of_rq_costs_no_attempt_its_lease(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_INTERVAL", 0.05)
    await store.redis.set("rq:workers", "somebody else's")
    record = await create(store, "waits")
    async with running_manager(store, fork_server, settings, directory):
        await began(directory, record)
        for _ in range(3):
            since = await store.redis.zscore(store.keys.leases, record.key)
            await eventually(lease_renewed(store, record, float(since or 0)))
        let_go(directory)
        assert outcome(await final(store, record)) == (Stage.COMPLETED, 1, 0)


@pytest.mark.parametrize("concurrency", [5, 0])
async def test_a_burst_does_not_end_while_dead_hosts_are_replaced_and_tickets_are_left(
    fork_server: ForkServer,
    store: Store,
    settings: Settings,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    concurrency: int,
) -> None:
    monkeypatch.setattr(pool, "FIRST_RESTART_DELAY", 1.0)
    monkeypatch.setattr(pool, "MAX_RESTART_DELAY", 1.0)
    let_go(directory)
    dying = [await create(store, "dies", attempts=1) for _ in range(3)]
    good = [await create(store, "works") for _ in range(2)]
    async with running_manager(store, fork_server, settings, directory, concurrency=concurrency, burst=True) as (
        _,
        life,
    ):
        assert await ended(life), "nothing was left"
    assert [(await now(store, record)).status for record in dying] == [OperationStatus.FAILED] * len(dying)
    assert [(await now(store, record)).status for record in good] == [OperationStatus.COMPLETED] * len(good)


async def test_a_worker_runs_an_operation_alone_that_needs_that_when_its_others_have_ended(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path
) -> None:
    async with running_manager(store, fork_server, settings, directory):
        first = await create(store, "waits")
        await began(directory, first)
        await store.redis.set("rq:suspended", 1)
        alone = await create(store, "waits")
        await store.redis.hset(store.keys.operation(alone.key), "apart", "worker")
        await store.redis.delete("rq:suspended")

        async def is_lone_worker() -> bool:
            return bool(await store.redis.exists(store.keys.lone_workers))

        await eventually(is_lone_worker)
        last = await create(store, "works")
        let_go(directory, first)
        await began(directory, alone)
        assert (await now(store, alone)).is_alone
        assert outcome(await final(store, first)) == (Stage.COMPLETED, 1, 0)
        assert not exists(directory / f"{last.id}.began")
        let_go(directory)
        for record in (alone, last):
            assert outcome(await final(store, record)) == (Stage.COMPLETED, 1, 0)
        assert (await now(store, alone)).completed <= (await now(store, last)).started


async def test_killed_workers_are_removed_from_the_registry_though_nobody_reads_it(store: Store) -> None:
    workers = WorkerRegistry(store)
    for name in ("killed", "lives"):
        await workers.announce(name, {})
    await store.redis.zincrby(store.keys.workers, -KNOWN_FOR - 1, "killed")
    await workers.announce("new", {})
    assert set(await store.redis.zrange(store.keys.workers, 0, -1)) == {"lives", "new"}


@pytest.mark.parametrize("turn", range(10))
async def test_a_whole_window_of_tickets_without_room_in_one_lane_does_not_hide_those_of_another(
    store: Store, turn: int
) -> None:
    for _ in range(WINDOW):
        await create(store, "works", priority="high")
    await create(store, "works")
    hidden = await create(store, "waits")
    room = Room(5, 0, kinds_of(registry("works", "waits")))
    claims = await store.claim("w", room, batch="b", turn=turn, deep=True)
    assert [record.id for record in claims.started] == [hidden.id]
    assert claims.left
