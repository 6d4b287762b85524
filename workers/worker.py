"""The RQ worker class for operations, and the entry of `tracker worker`."""

import os
import socket
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from redis.exceptions import RedisError
from rq.utils import now
from rq.worker import BaseWorker

from tracker import config, log
from tracker.domain.type_registry import TypeRegistry
from tracker.runtime import background
from tracker.store.address_check import why_unusable
from tracker.store.connection import open_blocking, open_redis
from tracker.store.keys import QUEUES
from tracker.store.store import Store
from tracker.url_handlers.request import load_registry
from workers.fork_server import ForkServer
from workers.manager import Manager, StopConditions, WorkerIdentity

if TYPE_CHECKING:
    from tracker.config import Settings

CONNECT_INTERVAL = 0.5
"""Time between two attempts to reach Redis at the start, in seconds."""

_log = structlog.get_logger()


class OperationWorker(BaseWorker):
    """An RQ worker for operations: `rq worker --worker-class workers.OperationWorker`, or `tracker worker`.

    It serves the three queues of operations, whichever queues RQ gives it. The settings say how many operations it
    runs at once. On SIGTERM or SIGINT it claims no more and lets its operations end, for TRACKER_DRAIN_SECONDS at most.
    Then it hands the others back to the queue, uncharged. A second signal makes it hand back at once.
    """

    def __init__(self, queues: Any = (), **options: Any) -> None:
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid4().hex[:8]}"
        super().__init__(list(QUEUES.values()), **{"name": name, **options, "serializer": "json"})
        ignored = {str(getattr(queue, "name", queue)) for queue in queues} - {*QUEUES.values(), "default"}
        if ignored:
            _log.warning("queues_ignored", queues=sorted(ignored), advice="this worker runs operations, nothing else")

    def work(  # RQ's other options do not apply to operations
        self,
        burst: bool = False,  # noqa: FBT001, FBT002 - RQ's signature
        *_: Any,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        **__: Any,
    ) -> bool:
        """Work until told to stop. Returns whether anything was done.

        The worker also stops by itself: with `burst` when nothing is left to do, after `max_jobs` operations, or after
        `max_idle_time` seconds without an operation, like RQ's own worker. It needs no RQ scheduler, because the
        sweeper queues delayed operations. Raises ConfigurationError for types that do not load.
        """
        settings = config.load()
        log.configure(settings)
        registry = load_registry(settings)
        stop_when = StopConditions(burst=burst, max_operations=max_jobs, max_idle=max_idle_time)
        return self.run(settings, registry, stop_when)[0] > 0

    def run(self, settings: "Settings", registry: TypeRegistry, stop_when: StopConditions) -> tuple[int, bool]:
        """Work with these settings. Returns how many attempts were begun, and whether all ended or were handed back."""
        self.connection.connection_pool.disconnect()  # the fork server would inherit the connection
        fork_server = ForkServer.fork(registry)
        self.birth_date = self.last_heartbeat = now()
        sets = [self.redis_workers_keys, *(f"{self.redis_workers_keys}:{queue}" for queue in self.queue_names())]
        identity = WorkerIdentity(self.name, self.key, self.pubsub_channel_name, sets, self.serialize())
        return background.run(_manage(settings, registry, fork_server, identity, stop_when))


async def _manage(
    settings: "Settings",
    registry: TypeRegistry,
    fork_server: ForkServer,
    identity: WorkerIdentity,
    stop_when: StopConditions,
) -> tuple[int, bool]:
    async with open_redis(settings) as redis:
        manager = Manager(Store(redis, settings), registry, fork_server, settings, identity, stop_when)
        clean = await manager.run()
        return manager.claimed, clean


def run(settings: "Settings") -> int:
    """Run one worker until SIGTERM or SIGINT, for `tracker worker`. Returns the exit code.

    The code is 0 when all operations ended or were handed back, else 1. Raises ConfigurationError for types that do not
    load.
    """
    log.configure(settings)
    registry = load_registry(settings)
    worker = _connect(settings)
    _, clean = worker.run(settings, registry, StopConditions())
    return 0 if clean else 1


def _connect(settings: "Settings") -> OperationWorker:
    """Make a worker as soon as Redis answers, however long that takes: RQ's base class asks it for its address."""
    logged = ""
    while reason := why_unusable(settings):
        if reason != logged:
            _log.warning("store_away", redis=settings.redis_address, reason=reason)
        logged = reason
        time.sleep(CONNECT_INTERVAL)
    try:
        return OperationWorker(connection=open_blocking(settings))
    except (RedisError, OSError):  # it has gone away again
        return _connect(settings)
