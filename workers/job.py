"""The function of every ticket, which RQ's own workers call.

To RQ's own `rq worker --job-class workers.OperationJob` a ticket is a job. The worker calls the job's function, which
runs one attempt in the process that RQ started for the job. `OperationWorker` does not call the function, because it
claims tickets by script. Both kinds of worker run attempts by the same executor.
"""

import asyncio
import os
import signal
import time
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
from tracker.store.reconnect_backoff import FIRST_WAIT
from tracker.store.rq_tickets import parse_job_id
from tracker.store.script_replies import ClaimReply
from tracker.store.store import LEASE, Store
from tracker.url_handlers.request import load_registry
from workers.completer import Completer
from workers.executor import Executor
from workers.fetcher import log_not_started
from workers.fork_server import ForkServer
from workers.handler_rooms import kinds_of
from workers.heartbeat import Heartbeat
from workers.host import HostKind
from workers.pool import PoolSize
from workers.spool import Spool

MAX_CONNECTIONS = 4
"""How many connections to Redis one attempt has at most."""

_log = structlog.get_logger()


def run_operation() -> None:
    """Run the attempt of the current RQ job, which is a ticket. Raises nothing: RQ would mark the job as failed.

    The settings, REDIS_URL among them, come from the environment.
    """
    try:
        job = get_current_job()
        if job is None or parse_job_id(job.id) is None:
            _log.error("foreign_job", job_id=job.id if job is not None else None)
            return
        run_ticket(job.id, worker=f"{job.worker_name or 'rq'}/{os.getpid()}")
    except Exception:  # noqa: BLE001 - the record tells the operation's outcome, the job does not
        _log.exception("ticket_failed")


def run_ticket(job_id: str, *, worker: str) -> None:
    """Run the attempt of one ticket, its handler in a host process. No other attempt may have the same `worker`."""
    settings = config.load()
    log.configure(settings)
    registry = load_registry(settings)
    fork_server = ForkServer.fork(registry)
    asyncio.run(_claim_and_run(settings, registry, fork_server, job_id, worker=worker))


async def _claim_and_run(
    settings: config.Settings, registry: TypeRegistry, fork_server: ForkServer, job_id: str, *, worker: str
) -> None:
    await fork_server.open()
    try:
        async with open_redis(settings, most=MAX_CONNECTIONS) as redis:
            store = Store(redis, settings)
            kinds = kinds_of(registry)
            claimed_at = time.monotonic()
            reply = await _claim(store, kinds, job_id, worker=worker)
            log_not_started(reply, worker=worker)
            for record in reply.started:
                await _run(store, kinds, fork_server, record, claimed_at, worker=worker)
    except Unavailable as error:
        _log.warning("ticket_dropped", job_id=job_id, redis=settings.redis_address, reason=error.message)
    finally:
        await fork_server.close()


async def _claim(store: Store, kinds: Mapping[str, HostKind], job_id: str, *, worker: str) -> ClaimReply:
    """Claim the ticket. While Redis is away, try again for as long as a lease lasts; then raises Unavailable.

    A claim whose reply was lost has begun the attempt. Without another try the attempt's lease would run out, and the
    operation would be charged for an attempt that never ran.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + LEASE
    while True:
        try:
            return await store.claim_ticket(job_id, worker=worker, kinds=kinds)
        except Unavailable:
            if loop.time() >= until:
                raise
            await asyncio.sleep(FIRST_WAIT)


async def _run(
    store: Store,
    kinds: Mapping[str, HostKind],
    fork_server: ForkServer,
    record: Record,
    claimed_at: float,
    *,
    worker: str,
) -> None:
    completer = Completer(store, Spool(None), worker=worker)
    name = canonical(record.type)
    executor = Executor(
        fork_server,
        {name: kinds[name]},
        PoolSize(0, 0, apart=1),
        worker=worker,
        on_completion=completer.add,
        apart_types={name},
    )
    heartbeat = Heartbeat(store, executor, completer, _announce_nothing)
    await executor.pool.open()
    try:
        async with beside(completer.run(), heartbeat.run(), heartbeat.store_progress(), executor.watch()):
            executor.begin(record, claimed_at)
            with _hand_back_on_sigterm(executor):
                await executor.idle.wait()
            await completer.settled.wait()
    finally:
        await executor.pool.close()


async def _announce_nothing() -> None:
    """Do nothing, because RQ's worker announces itself."""


@contextmanager
def _hand_back_on_sigterm(executor: Executor) -> Iterator[None]:
    """Hand the operation back on SIGTERM, if the process does not handle the signal yet.

    A process that RQ's default worker forks for a job does not handle the signal. RQ's SimpleWorker runs jobs in its
    own process, and handles the signal itself.
    """
    loop = asyncio.get_running_loop()
    unhandled = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if unhandled:
        loop.add_signal_handler(signal.SIGTERM, executor.hand_back)
    try:
        yield
    finally:
        if unhandled:
            loop.remove_signal_handler(signal.SIGTERM)
