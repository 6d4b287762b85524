"""Workers while Redis is away and when it is back: they go on, and each outcome is written once."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.handler_files import began, let_go, text_of
from tests.support.redis_servers import Server
from tests.support.waiting import eventually
from tests.support.worker_processes import Worker, create, final, now, one_ticket, reaches, running_worker, spools
from tracker.domain import lifecycle
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import Store

LONGER_THAN_A_LEASE = 20.0
HANGS_FOR = 12.0


@pytest.mark.parametrize("how", ["killed", "stopped", "paused", "read only"])
async def test_handlers_go_on_without_redis_and_their_outcomes_are_written_when_it_is_back(
    away: Server, tmp_path: Path, spool: Path, how: str
) -> None:
    store = away.store
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path, url=away.url) as worker:
        for record in records:
            await began(tmp_path, record)
        await away.go_away(how)
        let_go(tmp_path, *records)
        for record in records:
            await text_of(tmp_path / f"{record.id}.ended.1")
        await eventually(spools(spool, 2))
        assert worker.process.returncode is None
        await away.come_back(how)

        for record in records:
            ended = await final(store, record)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
            assert ended.members["answer"] == "of attempt 1"
        await eventually(spools(spool, 0))
        later = await create(store, "waits")
        let_go(tmp_path, later)
        assert (await final(store, later)).status is OperationStatus.COMPLETED
        assert not worker.logged("background_task_died") + worker.logged("outcome_refused")


@pytest.mark.parametrize("kind", ["waits", "works"])
async def test_an_attempt_under_rqs_own_worker_outlives_an_outage(away: Server, tmp_path: Path, kind: str) -> None:
    store = away.store
    record = await create(store, kind)
    async with running_worker(tmp_path, command=one_ticket(record), url=away.url) as horse:
        await began(tmp_path, record)
        await away.go_away("killed")
        let_go(tmp_path, record)
        await horse.wait_for_log("outcomes_wait")
        await away.come_back("killed")
        assert await horse.ends() == 0
    ended = await now(store, record)
    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)


async def test_a_lease_that_ran_out_during_an_outage_is_renewed_and_not_lost(away: Server, tmp_path: Path) -> None:
    store = away.store
    record = await create(store, "waits")
    async with running_worker(tmp_path, url=away.url) as worker:
        await began(tmp_path, record)
        await away.go_away("killed")
        await eventually(both_noticed(worker))
        await away.come_back("killed")
        await Clock(store.redis, store.keys.clock).advance(LONGER_THAN_A_LEASE)
        await worker.wait_for_log("store_back")
        await eventually(lease_renewed(store, record))
        let_go(tmp_path, record)
        ended = await final(store, record)
        assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)


def both_noticed(worker: Worker) -> Callable[[], Awaitable[bool]]:
    """Whether the fetcher and the sweeper have."""

    async def check() -> bool:
        return len(worker.logged("store_away")) == 2

    return check


async def test_a_server_that_hangs_for_longer_than_a_lease_costs_nobody_a_lease(away: Server, tmp_path: Path) -> None:
    store = away.store
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path, url=away.url):
        for record in records:
            await began(tmp_path, record)
        await away.go_away("paused")
        await asyncio.sleep(HANGS_FOR)
        await away.come_back("paused")
        for record in records:
            await eventually(lease_renewed(store, record))
        let_go(tmp_path, *records)
        for record in records:
            ended = await final(store, record)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)


def lease_renewed(store: Store, record: Record) -> Callable[[], Awaitable[bool]]:
    """To wait for with `eventually`: the record's lease ends in the future."""

    async def check() -> bool:
        ends = await store.redis.zscore(store.keys.leases, record.key)
        return ends is not None and ends > (await now_micros(store))

    return check


async def now_micros(store: Store) -> int:
    seconds, micros = await store.redis.time()
    return int(seconds) * 1_000_000 + int(micros) + int(await store.redis.get(store.keys.clock) or 0)


async def test_the_outcome_of_a_worker_that_lost_its_lease_is_refused_and_the_record_has_one_end(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    record = await create(store, "waits")
    async with running_worker(tmp_path) as slow:
        await began(tmp_path, record)
        slow.process.send_signal(signal.SIGSTOP)
        await clock.advance(LONGER_THAN_A_LEASE)
        assert (await Sweeper(store).sweep()).lost == 1
        await clock.advance(2)
        assert (await Sweeper(store).sweep()).due == 1
        async with running_worker(tmp_path):
            await eventually(reaches(store, record, Stage.RUNNING))
            let_go(tmp_path, record)
            await text_of(tmp_path / f"{record.id}.ended.1")  # its host was not stopped
            ended = await final(store, record)
        slow.process.send_signal(signal.SIGCONT)
        await slow.wait_for_log("outcome_refused")
        assert await now(store, record) == ended
    assert (ended.attempt, ended.charged, ended.members["answer"]) == (2, 0, "of attempt 2")
    [lost] = await store.history(record.key)
    assert (lost["attempt"], lost["outcome"]) == (1, "lose")


async def test_connections_that_are_cut_again_and_again_cost_nothing(store: Store, tmp_path: Path) -> None:
    async def cut() -> None:
        for kind in ("normal", "pubsub"):
            await store.redis.client_kill_filter(_type=kind, skipme=True)

    async with running_worker(tmp_path) as worker:
        records = []
        for _ in range(25):
            records += [await create(store, kind) for kind in ("waits", "works")]
            let_go(tmp_path, *records[-2:])
            await cut()
        for record in records:
            ended = await final(store, record)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
        assert not worker.logged("background_task_died")
        last = await create(store, "waits")
        await began(tmp_path, last)
        await store.apply(lifecycle.request_cancel(await now(store, last)))
        assert (await final(store, last)).canceled


async def test_a_server_that_forgot_the_scripts_gets_them_again(store: Store, tmp_path: Path) -> None:
    record = await create(store, "waits")
    async with running_worker(tmp_path) as worker:
        await began(tmp_path, record)
        await store.redis.script_flush()
        let_go(tmp_path, record)
        assert (await final(store, record)).status is OperationStatus.COMPLETED
        assert not worker.logged("commit_failed") + worker.logged("claim_failed")
