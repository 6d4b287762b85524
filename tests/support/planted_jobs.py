"""Jobs as a program that can write to Redis plants them. What they run makes a file in TEST_HANDLERS_DIR."""

import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

from tracker.store.rq_tickets import CALL

FUNCTION = "tests.support.planted_jobs.leave_a_mark"
LONG_AGO = 1_000_000_000
"""A time in seconds at which the lease of an abandoned job has run out."""
ABANDONED = f"{'0b' * 16}-1"


def leave_a_mark(*_: Any) -> None:
    """What no worker may run: as a job, as a callback, or by unpickling."""
    (Path(os.environ["TEST_HANDLERS_DIR"]) / "mark").touch()


class Unpickled:
    """A value that runs the function when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return leave_a_mark, ()


def _plant(redis: Any, job_id: str, *, queued: bool = True, **fields: Any) -> None:
    ours = {"data": zlib.compress(CALL), "origin": "operations", "status": "queued", "timeout": "60"}
    redis.hset(f"rq:job:{job_id}", mapping=ours | {"created_at": "2026-11-30T10:00:00.000000Z"} | fields)
    redis.sadd("rq:queues", "rq:queue:operations")
    if queued:
        redis.rpush("rq:queue:operations", job_id)


def plant_function(redis: Any) -> None:
    """A job that names another function."""
    _plant(redis, "planted", data=zlib.compress(json.dumps([FUNCTION, None, [], {}]).encode()))


def plant_pickle(redis: Any) -> None:
    """A job whose fields are pickled, which RQ unpickles when it reads the job."""
    bomb = pickle.dumps(Unpickled())
    _plant(redis, "planted", data=bomb, meta=bomb, result=bomb)


def plant_abandoned(redis: Any) -> None:
    """A job in the registry of what runs, whose worker seems dead, with a callback for its failure."""
    data = zlib.compress(json.dumps(["os.getpid", None, [], {}]).encode())
    _plant(redis, ABANDONED, queued=False, status="started", data=data, failure_callback_name=FUNCTION)
    redis.zadd("rq:wip:operations", {f"{ABANDONED}:{'0c' * 16}": LONG_AGO})


def plant_abandoned_pickle(redis: Any) -> None:
    """The same, with a pickled field in place of a callback."""
    _plant(redis, ABANDONED, queued=False, status="started", meta=pickle.dumps(Unpickled()))
    redis.zadd("rq:wip:operations", {f"{ABANDONED}:{'0c' * 16}": LONG_AGO})
