"""Our RQ worker: RQ's own, that hands work back when it has to stop and outlives Redis."""

import contextlib
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any
from uuid import uuid4

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.worker import Worker

from tracker import config, log
from tracker.errors import ConfigurationError
from tracker.keys import Keys
from tracker.processes import die_with_parent
from tracker.types import load_types

_log = structlog.get_logger()


class OperationWorker(Worker):
    """Takes tickets with the JSON serializer.

    SIGTERM stops it after the operation at hand; a second one makes it hand that operation back, uncharged. Its
    work horse does the same by itself when the worker dies.
    """

    def __init__(self, queues: Any, **options: Any) -> None:
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid4().hex[:8]}"
        super().__init__(queues, **{"name": name, **options, "serializer": "json"})

    def setup_work_horse_signals(self) -> None:
        """Hand the operation back when the worker dies (SIGTERM is what `run_operation` listens to)."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call] # RQ is typed in part
        die_with_parent(signal.SIGTERM, parent=self.pid)

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - RQ's signature
        """Second signal: the work horse hands its operation back; the worker ends when it has."""
        _log.info("worker_hands_back", worker=self.name)
        if self.horse_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tell RQ that the job lives. RQ's view is not the truth: Redis being away must not end the worker."""
        try:
            super().maintain_heartbeats(job, execution)
        except (RedisError, OSError):
            _log.warning("rq_heartbeat_missed", worker=self.name)


def main() -> int:
    """Run one worker until it is told to stop; what the supervisor starts."""
    try:
        settings = config.load()
        log.configure(settings)
        load_types(settings.type_modules)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    redis = Redis.from_url(settings.redis_url)
    _wait_for(redis, settings.redis_address)
    queue = Keys(settings.key_prefix, settings.rq_key_prefix).queue_name
    OperationWorker([queue], connection=redis).work(logging_level="WARNING")
    return 0


def _wait_for(redis: Any, address: str) -> None:
    """Wait until Redis answers, however long that takes; SIGTERM ends the process as usual."""
    told = False
    while True:
        try:
            redis.ping()
        except (RedisError, OSError) as error:
            if not told:
                _log.warning("store_away", redis=address, reason=str(error))
            told = True
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
