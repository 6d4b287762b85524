"""What RQ calls: the ticket's function, for RQ's own workers."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from rq import get_current_job

from tracker import config, log
from tracker.domain.operation import Record
from tracker.domain.type_registry import Catalogue, canonical
from tracker.errors import Unavailable
from tracker.runtime.background import beside
from tracker.store.connection import open_redis
from tracker.store.reconnect_backoff import FIRST
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_replies import Claims
from tracker.store.store import LEASE, Store
from tracker.url_handlers.request import load_catalogue
from workers.completer import Committer
from workers.executor import Engine, kinds_of
from workers.fetcher import tell
from workers.fork_server import Nursery
from workers.heartbeat import Beats
from workers.host import Kind
from workers.pool import Size
from workers.spool import Spool

_log = structlog.get_logger()


def run_operation() -> None:
    """Run the attempt that the current RQ job is the ticket for; never raise into RQ.

    For RQ's own `rq worker --serializer json`; `OperationWorker` does not come here. The settings, `REDIS_URL` among
    them, come from the environment.
    """
    try:
        job = get_current_job()
        if job is None or parse_job_id(job.id) is None:
            _log.error("foreign_job", job_id=job.id if job is not None else None)
            return
        run_ticket(job.id, worker=f"{job.worker_name or 'rq'}/{os.getpid()}")
    except Exception:  # noqa: BLE001 - RQ would judge the job by it; the record is the truth
        _log.exception("ticket_failed")


def run_ticket(job_id: str, *, worker: str) -> None:
    """Run one attempt, its handler in a process of its own. `worker` must be unique among attempts."""
    settings = config.load()
    log.configure(settings)
    catalogue = load_catalogue(settings)
    nursery = Nursery.fork(catalogue)
    asyncio.run(_attend(settings, catalogue, nursery, job_id, worker=worker))


async def _attend(
    settings: config.Settings, catalogue: Catalogue, nursery: Nursery, job_id: str, *, worker: str
) -> None:
    await nursery.open()
    try:
        async with open_redis(settings, most=4) as redis:
            store = Store(redis, settings)
            kinds = kinds_of(catalogue)
            claims = await _claim(store, kinds, job_id, worker=worker)
            tell(claims, worker=worker)
            for record in claims.started:
                await _run(store, kinds, nursery, record, worker=worker)
    except Unavailable as away:
        _log.warning("ticket_dropped", job_id=job_id, redis=settings.redis_address, reason=away.message)
    finally:
        await nursery.close()


async def _claim(store: Store, kinds: Mapping[str, Kind], job_id: str, *, worker: str) -> Claims:
    """Claim the ticket, asking again while Redis is away, for as long as a lease lasts. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LEASE
    while True:
        try:
            return await store.claim_ticket(job_id, worker=worker, kinds=kinds)
        except Unavailable:
            if loop.time() >= until:
                raise
            await asyncio.sleep(FIRST)


async def _run(store: Store, kinds: Mapping[str, Kind], nursery: Nursery, record: Record, *, worker: str) -> None:
    committer = Committer(store, Spool(None), worker=worker)
    name = canonical(record.type)
    engine = Engine(nursery, {name: kinds[name]}, Size(1, 1), worker=worker, end=committer.put)
    beats = Beats(store, engine, committer, _say_nothing)
    await engine.pool.open()
    try:
        async with beside(committer.run(), beats.run(), beats.store_progress(), engine.watch()):
            engine.begin(record)
            with _handing_back(engine):
                await engine.idle.wait()
            await committer.settled.wait()
    finally:
        await engine.pool.close()


async def _say_nothing() -> None:
    """RQ's worker speaks for itself."""


@contextmanager
def _handing_back(engine: Engine) -> Iterator[None]:
    """Let SIGTERM hand the operation back, in a work horse, where nobody else handles it."""
    loop = asyncio.get_running_loop()
    free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if free:
        loop.add_signal_handler(signal.SIGTERM, engine.hand_back)
    try:
        yield
    finally:
        if free:
            loop.remove_signal_handler(signal.SIGTERM)
