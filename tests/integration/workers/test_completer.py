"""The completer: outcomes are written in batches, each once, although replies are lost."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as redis_errors

from tests.support.log_lines import lines_of
from tests.support.waiting import eventually, soon
from tests.support.worker_processes import create, final, now, reaches, spooled, spools
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, RAISED, OperationStatus
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.log import configure
from tracker.runtime.background import beside
from tracker.store.script_replies import ChangeReply
from tracker.store.store import Store, pack
from workers import completer as completer_module
from workers.completer import Completer
from workers.completion import Completion
from workers.outcome import Raised, Stopped, Succeeded
from workers.spool import Spool

CHANGES = Iterable[Sequence[str]]


@pytest.fixture
async def running(store: Store) -> list[Record]:
    """Operations that a worker has claimed."""
    found: list[Record] = []
    for _ in range(5):
        record = await create(store, "waits")
        job, kinds = f"{record.key}-{record.ticket}", {"executor.waits": "coroutines"}
        found += (await store.claim_ticket(job, worker="w", kinds=kinds)).started
    return found


@pytest.fixture
async def completer(store: Store) -> AsyncIterator[Completer]:
    completer = Completer(store, Spool(None), worker="w")
    async with beside(completer.run()):
        yield completer


def success(record: Record) -> Completion:
    return Completion(record, lifecycle.succeed(record, DONE, {"answer": record.id}), Succeeded(DONE, {}), 1.5)


def canceled(record: Record) -> Completion:
    return Completion(record, None, Stopped({}), 0.5)


async def settled(completer: Completer) -> None:
    await soon(completer.settled.wait())


async def test_an_outcome_that_is_refused_does_not_affect_others_of_its_batch(
    store: Store, completer: Completer, running: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings(log_format="json"))
    lost, gone, *good = running
    await store.apply(lifecycle.hand_back(lost))
    await store.redis.delete(store.keys.operation(gone.key))
    for record in running:
        completer.add(success(record))
    await settled(completer)
    for record in good:
        assert (await now(store, record)).members["answer"] == record.id
    assert (await now(store, lost)).stage is Stage.QUEUED
    told = capsys.readouterr().err
    assert (told.count("outcome_refused"), told.count("operation_completed")) == (2, 3)
    assert completer.take_counts() == completer_module.Counts(succeeded=3, failed=0, worked=4.5)
    await store.redis.zrem(store.keys.leases, gone.key)


async def test_an_outcome_whose_answer_was_lost_is_written_once_and_not_called_refused(
    store: Store,
    completer: Completer,
    running: list[Record],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(Settings(log_format="json"))
    real, lost = store.write, 0

    async def write(changes: CHANGES) -> list[ChangeReply]:
        nonlocal lost
        words = await real(changes)
        lost += 1
        if lost < 3:
            raise Unavailable("the answer was lost")
        return words

    monkeypatch.setattr(store, "write", write)
    *well, stopped = running
    await store.apply(lifecycle.request_cancel(stopped, "enough", by="somebody"))
    for record in well:
        completer.add(success(record))
    completer.add(canceled(stopped))
    await settled(completer)
    after = [await now(store, record) for record in running]
    assert [record.status for record in after] == [OperationStatus.COMPLETED] * 4 + [OperationStatus.FAILED]
    assert (after[-1].canceled, after[-1].cancel_by, after[-1].cancel_reason) == (True, "somebody", "enough")
    assert {record.revision for record in after[:-1]} == {running[0].revision + 1}
    assert len(await store.history(stopped.key)) == 1
    told = capsys.readouterr().err
    assert lost == 3
    assert (told.count("operation_completed"), told.count("operation_canceled")) == (4, 1)
    assert "outcome_refused" not in told


async def test_a_cancel_that_comes_before_a_retry_or_a_hand_back_ends_the_operation(
    store: Store, completer: Completer, running: list[Record]
) -> None:
    retried, back = running[:2]
    for record in (retried, back):
        await store.apply(lifecycle.request_cancel(record))
    completer.add(Completion(retried, lifecycle.fail(retried, RAISED, {}), Raised(RAISED, {}, True, ""), 0.0))
    completer.add(Completion(back, lifecycle.hand_back(back), Stopped({}), 0.0))
    await settled(completer)
    for record in (retried, back):
        ended = await now(store, record)
        assert (ended.stage, ended.canceled, ended.charged) == (Stage.FAILED, True, 0)


def files(directory: Path, pattern: str = "*") -> list[Path]:
    return list(directory.glob(pattern))


class Refusing:
    """`Store.write` that fails for a batch with the change of one operation. `batches` has the sizes of all batches."""

    def __init__(self, store: Store, bad: Record) -> None:
        self._write, self._bad = store.write, bad
        self.batches: list[int] = []

    async def __call__(self, changes: CHANGES) -> list[ChangeReply]:
        changes = list(changes)
        self.batches.append(len(changes))
        if any(change[0].startswith(self._bad.key) for change in changes):
            raise redis_errors.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return await self._write(changes)


async def test_an_outcome_that_cannot_be_written_is_found_by_halves_and_set_aside(
    store: Store,
    settings: Settings,
    running: list[Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings)
    good, bad, *others = running
    write = Refusing(store, bad)
    monkeypatch.setattr(store, "write", write)
    completer = Completer(store, Spool(tmp_path), worker="w")
    for record in running:
        completer.add(success(record))
    async with beside(completer.run()):
        for record in (good, *others):
            assert (await final(store, record)).status is OperationStatus.COMPLETED
        await settled(completer)
    assert write.batches == [5, 2, 1, 1, 3]
    assert list(completer.waiting) == [], "nobody renews its lease any more"
    assert (await now(store, bad)).stage is Stage.RUNNING
    [line] = lines_of(capsys, "outcome_set_aside")
    [aside] = files(tmp_path)
    assert (line["operation_id"], line["kept"]) == (bad.id, str(aside))
    monkeypatch.undo()
    aside.rename(aside.with_suffix(".outcomes"))
    heir = Completer(store, Spool(tmp_path), worker="heir")
    async with beside(heir.run()):
        assert (await final(store, bad)).status is OperationStatus.COMPLETED


async def test_an_outcome_that_cannot_be_written_is_named_without_a_spool(
    store: Store,
    settings: Settings,
    completer: Completer,
    running: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings)
    monkeypatch.setattr(store, "write", Refusing(store, running[0]))
    completer.add(success(running[0]))
    await settled(completer)
    [line] = lines_of(capsys, "outcome_set_aside")
    assert (line["operation_id"], line["kept"]) == (running[0].id, None)


async def test_a_spooled_outcome_that_cannot_be_written_is_set_aside_and_stops_no_other(
    store: Store, running: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.keep([pack(lifecycle.succeed(record, DONE, {})) for record in running])
    monkeypatch.setattr(Spool, "adopt", adopting_everything(tmp_path))
    bad, *good = running
    monkeypatch.setattr(store, "write", Refusing(store, bad))
    completer = Completer(store, Spool(tmp_path), worker="w")
    async with beside(completer.run()):
        for record in good:
            assert (await final(store, record)).status is OperationStatus.COMPLETED
        await settled(completer)
    assert (await now(store, bad)).stage is Stage.RUNNING
    [aside] = files(tmp_path, "*.aside")
    assert bad.key in aside.read_text()


async def test_an_outcome_is_in_the_spool_until_it_is_written(
    store: Store, running: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a batch; what is not written after a second, or when the worker ends."""
    monkeypatch.setattr(completer_module, "MAX_BATCH", 2)
    real, gate = store.write, asyncio.Event()

    async def write(changes: CHANGES) -> list[ChangeReply]:
        if not gate.is_set():
            await asyncio.Event().wait()  # a server that hangs
        return await real(changes)

    monkeypatch.setattr(store, "write", write)
    completer = Completer(store, Spool(tmp_path), worker="w")
    late, last = running[:4], running[4]
    async with beside(completer.run()):
        for record in late:
            completer.add(success(record))
        await eventually(spools(tmp_path, 4))
        completer.add(success(last))
    assert len(spooled(tmp_path)) == 5

    gate.set()
    monkeypatch.setattr(Spool, "adopt", adopting_everything(tmp_path))
    heir = Completer(store, Spool(tmp_path), worker="heir")
    async with beside(heir.run()):
        for record in running:
            await eventually(reaches(store, record, Stage.COMPLETED))
        await settled(heir)


def adopting_everything(directory: Path) -> Any:
    """A worker of this very process does not let go of its lock."""
    return lambda _: spooled(directory)


async def test_spooled_lines_of_an_unknown_form_stop_nothing(
    store: Store, running: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "older.outcomes").write_text('["a form", "of another version"]\n[]\n')
    completer = Completer(store, Spool(tmp_path), worker="w")
    async with beside(completer.run()):
        completer.add(success(running[0]))
        assert (await final(store, running[0])).status is OperationStatus.COMPLETED
        await settled(completer)
    assert not files(tmp_path, "*.outcomes")
