"""Our RQ worker: claims and commits in batches, runs handlers in hosts, and survives what may happen to it."""

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
from tracker.store.connection import open_blocking, open_redis
from tracker.store.keys import QUEUES
from tracker.store.store import Store
from tracker.url_handlers.request import load_registry
from workers.fork_server import ForkServer
from workers.manager import Identity, Limits, Manager

if TYPE_CHECKING:
    from tracker.config import Settings

_log = structlog.get_logger()


class OperationWorker(BaseWorker):
    """Runs operations. `rq worker --worker-class workers.OperationWorker` and `tracker worker` both start it.

    It listens to the three queues of operations, whichever RQ names it; how much it runs at once comes from the
    settings. SIGTERM or SIGINT stops it after the operations at hand, or after TRACKER_DRAIN_SECONDS; what is then
    unfinished is handed back, uncharged. A second signal hands back at once.
    """

    def __init__(self, queues: Any = (), **options: Any) -> None:
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid4().hex[:8]}"
        super().__init__(list(QUEUES.values()), **{"name": name, **options, "serializer": "json"})
        others = {str(getattr(queue, "name", queue)) for queue in queues} - {*QUEUES.values(), "default"}
        if others:
            _log.warning("queues_ignored", queues=sorted(others), advice="this worker runs operations, nothing else")

    def work(  # RQ's many other options have no meaning here, and are left alone
        self,
        burst: bool = False,  # noqa: FBT001, FBT002 - RQ's signature
        *_: Any,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        **__: Any,
    ) -> bool:
        """Work until told to stop; with `burst`, until nothing is left to do. Returns whether anything was done.

        `max_jobs` and `max_idle_time` (seconds) end it as they end RQ's own worker. RQ's scheduler is not needed:
        operations that wait are the sweeper's. Raises ConfigurationError for types that do not load.
        """
        settings = config.load()
        log.configure(settings)
        registry = load_registry(settings)
        return self.run(settings, registry, Limits(burst=burst, operations=max_jobs, idle=max_idle_time))[0] > 0

    def run(self, settings: "Settings", registry: TypeRegistry, limits: Limits) -> tuple[int, bool]:
        """Work with these settings. Returns how many attempts were begun, and whether nothing was left behind."""
        self.connection.connection_pool.disconnect()  # or the fork_server would hold it open too
        fork_server = ForkServer.fork(registry)
        self.birth_date = self.last_heartbeat = now()
        registers = [self.redis_workers_keys, *(f"{self.redis_workers_keys}:{queue}" for queue in self.queue_names())]
        identity = Identity(self.name, self.key, self.pubsub_channel_name, registers, self.serialize())
        return background.run(_manage(settings, registry, fork_server, identity, limits))


async def _manage(
    settings: "Settings", registry: TypeRegistry, fork_server: ForkServer, identity: Identity, limits: Limits
) -> tuple[int, bool]:
    async with open_redis(settings) as redis:
        manager = Manager(Store(redis, settings), registry, fork_server, settings, identity, limits)
        clean = await manager.run()
        return manager.claimed, clean


def run(settings: "Settings") -> int:
    """Run one worker until SIGTERM or SIGINT: what `tracker worker` does. Returns the exit code.

    0 when all it had was finished or handed back, else 1. Raises ConfigurationError for types that do not load.
    """
    log.configure(settings)
    registry = load_registry(settings)
    worker = _born(settings)
    _, clean = worker.run(settings, registry, Limits())
    return 0 if clean else 1


def _born(settings: "Settings") -> OperationWorker:
    """A worker, as soon as Redis answers, however long that takes: RQ asks it for this worker's address."""
    told = False
    while True:
        try:
            return OperationWorker(connection=open_blocking(settings))
        except (RedisError, OSError) as error:
            if not told:
                _log.warning("store_away", redis=settings.redis_address, reason=str(error))
            told = True
            time.sleep(0.5)
