"""Claims whose reply from Redis is lost, and a second worker with the name of a dead worker."""

from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.executors import running_executor
from tests.support.records import make_record
from tests.support.stock_attempts import record_after_attempt
from tests.support.waiting import eventually
from tracker import Operation
from tracker.config import Settings
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.errors import Unavailable
from tracker.maintenance.sweeper import Sweeper
from tracker.runtime.background import beside
from tracker.store.script_replies import ClaimReply
from tracker.store.store import Store
from workers.completer import Completer
from workers.completion import Completion
from workers.fetcher import Fetcher
from workers.fork_server import ForkServer
from workers.pool import PoolSize
from workers.spool import Spool


class Quick(Operation, type="#test.quick"):
    pass


def quick(_operation: Quick, _context: Any) -> None:
    pass


@pytest.fixture
def types() -> TypeRegistry:
    types = TypeRegistry()
    for model, handler in ((Quick, quick),):
        types.add(OperationType(model.odata_type, model, handler))
    return types


@pytest.fixture
def fork_server(types: TypeRegistry) -> ForkServer:
    return ForkServer.fork(types)


async def test_a_claim_whose_answer_was_lost_is_asked_again(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lease already: dropping it charges an attempt that never ran."""
    real, lost = Store.claim_ticket, 0

    async def lossy(*args: Any, **kwargs: Any) -> ClaimReply:
        nonlocal lost
        claims = await real(*args, **kwargs)
        lost += 1
        if lost == 1:
            raise Unavailable("the answer was lost")
        return claims

    monkeypatch.setattr(Store, "claim_ticket", lossy)
    record, _ = await store.create(make_record(type="#test.quick", policy=Policy(attempts=1)))
    after = await record_after_attempt(store, types, fork_server, settings, record)
    assert (after.stage, after.attempt, after.charged, lost) == (Stage.COMPLETED, 1, 0, 2)


async def test_a_batch_whose_answer_was_lost_is_asked_for_again(
    store: Store, types: TypeRegistry, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second answer is lost; each operation is begun once, at its first attempt."""
    real, asked = store.claim, 0

    async def lossy(*args: Any, **kwargs: Any) -> ClaimReply:
        nonlocal asked
        claims = await real(*args, **kwargs)
        asked += 1
        if asked % 2:
            raise Unavailable("the answer was lost")
        return claims

    monkeypatch.setattr(store, "claim", lossy)
    records = [(await store.create(make_record(type="#test.quick", policy=Policy(attempts=1))))[0] for _ in range(40)]
    async with running_executor(fork_server, types, PoolSize(0, 3)) as (executor, completions):
        completer = Completer(store, Spool(None), worker="w")

        def end(completion: Completion) -> None:
            completions.put(completion)
            completer.add(completion)

        executor._on_completion = end
        fetcher = Fetcher(store, executor, worker="w", on_nothing_claimed=lambda: None, max_operations=None)
        async with beside(fetcher.run(), completer.run()):

            async def all_done() -> bool:
                stages = {record.stage for record in await store.read(record.key for record in records)}
                return stages == {Stage.COMPLETED}

            await eventually(all_done)
    after = await store.read(record.key for record in records)
    assert {(record.attempt, record.charged) for record in after} == {(1, 0)}
    assert fetcher.claimed == 40


async def test_a_worker_of_the_same_name_does_not_take_over_what_a_dead_one_had_claimed(
    store: Store, types: TypeRegistry, fork_server: ForkServer, clock: Clock
) -> None:
    """`rq worker --name`: the dead one may only seem dead, and the fence could not tell their outcomes apart."""
    record, _ = await store.create(make_record(type="#test.quick"))
    async with running_executor(fork_server, types, PoolSize(0, 1)) as (executor, completions):
        first = Fetcher(store, executor, worker="same", on_nothing_claimed=lambda: None, max_operations=None)
        asked = first._send_claim(first._room())
        assert asked is not None
        claimed = await asked
        assert [started.key for started in claimed.started] == [record.key]

        second = Fetcher(store, executor, worker="same", on_nothing_claimed=lambda: None, max_operations=None)
        async with beside(second.run()):
            await clock.advance(11)
            assert (await Sweeper(store).sweep()).lost == 1
            await clock.advance(2)
            assert (await Sweeper(store).sweep()).due == 1
            completion = (await completions.of(record)).record
    assert (completion.attempt, completion.charged, completion.suspected) == (2, 0, 1)
