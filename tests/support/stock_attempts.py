"""Attempts under RQ's own worker, without the worker."""

from tests.support.waiting import soon
from tracker.config import Settings
from tracker.domain.record import Record
from tracker.domain.type_registry import TypeRegistry
from tracker.store.store import Store
from workers import job
from workers.fork_server import ForkServer


async def record_after_attempt(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, record: Record
) -> Record:
    """The record after an attempt under RQ's own worker."""
    work = job._claim_and_run(settings, types, fork_server, f"{record.key}-{record.ticket}", worker="w")
    await soon(work)
    return (await store.read([record.key]))[0]
