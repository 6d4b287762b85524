"""Outcomes that a worker leaves in the spool because Redis is away, and the worker that writes them."""

import signal
from pathlib import Path

import pytest

from tests.support.handler_files import began, exists, let_go, text_of
from tests.support.redis_servers import Server
from tests.support.waiting import eventually
from tests.support.worker_processes import create, final, now, running_worker, spooled, spools
from tracker.domain import lifecycle
from tracker.domain.operation import OperationStatus


async def test_a_worker_killed_during_the_outage_leaves_its_outcomes_to_the_next_one(
    away: Server, tmp_path: Path, spool: Path
) -> None:
    store = away.store
    records = [await create(store, kind) for kind in ("waits", "works")]
    async with running_worker(tmp_path, url=away.url) as worker:
        for record in records:
            await began(tmp_path, record)
        await away.go_away("killed")
        let_go(tmp_path, *records)
        await eventually(spools(spool, 2))
        worker.process.kill()
        await worker.ends()
    async with running_worker(tmp_path, url=away.url) as heir:
        await heir.wait_for_log("store_away")
        await away.come_back("killed")
        for record in records:
            ended = await final(store, record)
            assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)
        await eventually(spools(spool, 0))
        assert [line["answer"] for line in heir.logged("spooled_outcome")] == ["OK", "OK"]


async def test_what_was_spooled_and_written_before_its_worker_died_is_not_written_again(
    away: Server, tmp_path: Path, spool: Path
) -> None:
    """And what another attempt has decided meanwhile is left alone."""
    store = away.store
    written, decided = [await create(store, "waits") for _ in range(2)]
    async with running_worker(tmp_path, url=away.url) as worker:
        for record in (written, decided):
            await began(tmp_path, record)
        await away.go_away("killed")
        let_go(tmp_path, written, decided)
        await eventually(spools(spool, 2))
        worker.process.kill()
        await worker.ends()
    await away.come_back("killed")
    await store.write([change for change in spooled(spool) if change[0].startswith(written.key)])
    before = await now(store, written)
    running = await now(store, decided)
    await store.apply(lifecycle.hand_back(running))
    (tmp_path / f"{decided.id}.go").unlink()
    async with running_worker(tmp_path, url=away.url) as heir:
        await eventually(spools(spool, 0))
        await text_of(tmp_path / f"{decided.id}.began")
        assert sorted(line["answer"] for line in heir.logged("spooled_outcome")) == ["CONFLICT", "OK"]
        assert await now(store, written) == before
        let_go(tmp_path, decided)
        ended = await final(store, decided)
        assert (ended.attempt, ended.members["answer"]) == (2, "of attempt 2")


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_a_worker_that_is_stopped_while_redis_is_away_ends_in_time_and_leaves_its_outcome_in_the_spool(
    away: Server, tmp_path: Path, spool: Path, how: str
) -> None:
    store = away.store
    record = await create(store, "waits")
    async with running_worker(tmp_path, url=away.url, TRACKER_DRAIN_SECONDS="1") as worker:
        await began(tmp_path, record)
        await away.go_away(how)
        let_go(tmp_path, record)
        await text_of(tmp_path / f"{record.id}.ended.1")
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ends() == 1
    assert len(spooled(spool)) == 1
    await away.come_back(how)
    await store.beat([(record.key, 1)])  # however long all this took
    async with running_worker(tmp_path, url=away.url):
        ended = await final(store, record)
    assert (ended.status, ended.attempt, ended.charged) == (OperationStatus.COMPLETED, 1, 0)


async def test_what_ends_as_canceled_while_redis_is_away_is_canceled_when_it_is_back(
    away: Server, tmp_path: Path, spool: Path
) -> None:
    store = away.store
    record = await create(store, "clings", attempts=1)
    async with running_worker(tmp_path, url=away.url) as worker:
        await began(tmp_path, record)
        await store.apply(lifecycle.request_cancel(await now(store, record), "enough", by="somebody"))
        await text_of(tmp_path / f"{record.id}.stopped")
        await away.go_away("killed")
        await worker.wait_for_log("handler_stuck")
        await worker.wait_for_log("outcomes_wait")
        assert not exists(spool), "how it ends is decided on the record, which is away"
        await away.come_back("killed")
        ended = await final(store, record)
    assert (ended.canceled, ended.cancel_by, ended.cancel_reason) == (True, "somebody", "enough")
