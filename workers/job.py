"""What RQ calls: the ticket's function, for RQ's own workers."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from rq import get_current_job

from tracker import config, log
from tracker.domain.record import Record
from tracker.domain.type_registry import TypeRegistry, canonical
from tracker.errors import Unavailable
from tracker.runtime.background import beside
from tracker.store.connection import open_redis
from tracker.store.reconnect_backoff import FIRST
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_replies import ClaimReply
from tracker.store.store import LEASE, Store
from tracker.url_handlers.request import load_registry
from workers.completer import Completer
from workers.executor import Executor, kinds_of
from workers.fetcher import tell
from workers.fork_server import ForkServer
from workers.heartbeat import Heartbeat
from workers.host import HostKind
from workers.pool import PoolSize
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
    registry = load_registry(settings)
    fork_server = ForkServer.fork(registry)
    asyncio.run(_attend(settings, registry, fork_server, job_id, worker=worker))


async def _attend(
    settings: config.Settings, registry: TypeRegistry, fork_server: ForkServer, job_id: str, *, worker: str
) -> None:
    await fork_server.open()
    try:
        async with open_redis(settings, most=4) as redis:
            store = Store(redis, settings)
            kinds = kinds_of(registry)
            claims = await _claim(store, kinds, job_id, worker=worker)
            tell(claims, worker=worker)
            for record in claims.started:
                await _run(store, kinds, fork_server, record, worker=worker)
    except Unavailable as away:
        _log.warning("ticket_dropped", job_id=job_id, redis=settings.redis_address, reason=away.message)
    finally:
        await fork_server.close()


async def _claim(store: Store, kinds: Mapping[str, HostKind], job_id: str, *, worker: str) -> ClaimReply:
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


async def _run(
    store: Store, kinds: Mapping[str, HostKind], fork_server: ForkServer, record: Record, *, worker: str
) -> None:
    completer = Completer(store, Spool(None), worker=worker)
    name = canonical(record.type)
    executor = Executor(fork_server, {name: kinds[name]}, PoolSize(1, 1), worker=worker, end=completer.put)
    beats = Heartbeat(store, executor, completer, _say_nothing)
    await executor.pool.open()
    try:
        async with beside(completer.run(), beats.run(), beats.store_progress(), executor.watch()):
            executor.begin(record)
            with _handing_back(executor):
                await executor.idle.wait()
            await completer.settled.wait()
    finally:
        await executor.pool.close()


async def _say_nothing() -> None:
    """RQ's worker speaks for itself."""


@contextmanager
def _handing_back(executor: Executor) -> Iterator[None]:
    """Let SIGTERM hand the operation back, in a work horse, where nobody else handles it."""
    loop = asyncio.get_running_loop()
    free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if free:
        loop.add_signal_handler(signal.SIGTERM, executor.hand_back)
    try:
        yield
    finally:
        if free:
            loop.remove_signal_handler(signal.SIGTERM)
