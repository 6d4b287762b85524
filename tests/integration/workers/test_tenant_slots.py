"""Tenants in one worker: none takes all slots of a kind while the installation has others."""

from pathlib import Path

import pytest

from tests.integration.workers.test_fetcher import running_manager
from tests.support.handler_files import began, exists, let_go
from tests.support.records import make_record
from tests.support.waiting import eventually
from tests.support.worker_processes import final
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.store.store import Store
from tracker.store.tenant_registry import TenantRegistry
from workers.fork_server import ForkServer

TYPES = ("waits", "works", "dies")


async def create(store: Store, kind: str, tenant: str) -> Record:
    return (await store.create(make_record(type=f"#executor.{kind}", tenant=tenant)))[0]


def begun(directory: Path, records: list[Record]) -> int:
    return sum(exists(directory / f"{record.id}.began") for record in records)


@pytest.mark.parametrize(("kind", "slots"), [("waits", 5), ("works", 3)])
async def test_a_newcomer_starts_while_another_tenant_floods_the_worker(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path, kind: str, slots: int
) -> None:
    await TenantRegistry(store).announce(["flood", "other"])
    flooding = [await create(store, kind, "flood") for _ in range(3 * slots)]
    async with running_manager(store, fork_server, settings, directory, concurrency=slots, processes=slots):

        async def is_full() -> bool:
            return begun(directory, flooding) >= slots - 1

        await eventually(is_full)
        newcomer = await create(store, kind, "new")
        await began(directory, newcomer)
        assert begun(directory, flooding) == slots - 1
        let_go(directory)
        for record in (newcomer, *flooding):
            assert (await final(store, record)).status is OperationStatus.COMPLETED


@pytest.mark.parametrize("kind", ["waits", "works"])
async def test_a_tenant_that_is_alone_takes_all_slots(
    fork_server: ForkServer, store: Store, settings: Settings, directory: Path, kind: str
) -> None:
    await TenantRegistry(store).announce(["only"])
    flooding = [await create(store, kind, "only") for _ in range(5)]
    async with running_manager(store, fork_server, settings, directory, concurrency=3, processes=3):

        async def is_full() -> bool:
            return begun(directory, flooding) == 3

        await eventually(is_full)
        let_go(directory)
        for record in flooding:
            assert (await final(store, record)).status is OperationStatus.COMPLETED
