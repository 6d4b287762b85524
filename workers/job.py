"""What RQ calls: the ticket's function."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from rq import get_current_job

from tracker import config, log
from tracker.connection import open_redis
from tracker.queue import parse_job_id
from tracker.store import Store
from tracker.types import Catalogue, load_types
from workers import child
from workers.attempt import Attempt, Handler, Stop

_log = structlog.get_logger()


def run_operation() -> None:
    """Run the attempt that the current RQ job is the ticket for; never raise into RQ.

    Works under any RQ worker with the JSON serializer: RQ's own `rq worker --serializer json` as well as ours.
    The settings, `REDIS_URL` among them, come from the environment.
    """
    try:
        job = get_current_job()
        ticket = parse_job_id(job.id) if job is not None else None
        if job is None or ticket is None:
            _log.error("foreign_job", job_id=job.id if job is not None else None)
            return
        run_ticket(*ticket, worker=f"{job.worker_name or 'rq'}/{os.getpid()}")
    except Exception:  # noqa: BLE001 - RQ would judge the job by it; the record is the truth
        _log.exception("ticket_failed")


def run_ticket(key: str, ticket: int, *, worker: str) -> None:
    """Run one attempt in this process, its handler in a child. `worker` must be unique among attempts."""
    settings = config.load()
    log.configure(settings)
    catalogue = load_types(settings.type_modules)
    handler = _fork_handler(catalogue)
    asyncio.run(_attend(settings, catalogue, handler, key, ticket, worker=worker))


def _fork_handler(catalogue: Catalogue) -> Handler:
    """Fork the handler's process before there is an event loop; it waits for its order.

    SIGTERM is held back across the fork: the child lets it in when its handler can be stopped. The child leads
    a process group, so that whatever its handler starts can be ended with it.
    """
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid == 0:
        ours.close()
        child.main(theirs, catalogue, parent=parent)
    with suppress(OSError):  # the child does the same; whoever comes first
        os.setpgid(pid, pid)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return Handler(pid, ours)


async def _attend(
    settings: config.Settings, catalogue: Catalogue, handler: Handler, key: str, ticket: int, *, worker: str
) -> None:
    async with open_redis(settings, most=4) as redis:
        attempt = Attempt(Store(redis, settings), catalogue, handler, worker=worker)
        with _handing_back(attempt):
            await attempt.run(key, ticket)


@contextmanager
def _handing_back(attempt: Attempt) -> Iterator[None]:
    """Let SIGTERM hand the operation back, in a work horse, where nobody else handles it."""
    loop = asyncio.get_running_loop()
    free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if free:
        loop.add_signal_handler(signal.SIGTERM, attempt.stop, Stop.DRAIN)
    try:
        yield
    finally:
        if free:
            loop.remove_signal_handler(signal.SIGTERM)
