"""A worker's entry in RQ's registry of workers, for `rq info` and RQ's dashboards.

The entry has the form that RQ's own workers write (rq/worker/base.py). tests/contract compares both.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rq.utils import now, utcformat

from tracker.store.scripts import answering
from workers.completer import Counts

if TYPE_CHECKING:
    from redis.asyncio import Redis

ENTRY_TTL = 480
"""The time from the last beat until the entry expires, in seconds. As in RQ: DEFAULT_WORKER_TTL (420) and 60 more."""
ENTRY_TTL_AFTER_DEATH = 60
"""The time until the entry of a stopped worker expires, in seconds. As in RQ."""


class RqPresence:
    """Writes what RQ's own workers write: a hash with heartbeat, state and counters, and a member in sets of workers.

    `key`: the key of the hash, which is also the member. `fields`: the fields of the hash that do not change.
    `worker_sets`: the keys of the sets.
    """

    def __init__(self, redis: "Redis", *, key: str, fields: Mapping[str, Any], worker_sets: list[str]) -> None:
        self._redis, self._key, self._worker_sets = redis, key, worker_sets
        self._fields: dict[Any, Any] = {name: "" if value is None else value for name, value in fields.items()}

    def note_stop_request(self) -> None:
        """Note that the worker was asked to stop just now. The next beat tells RQ."""
        self._fields.setdefault("shutdown_requested_date", utcformat(now()))

    async def beat(self, state: str, counts: Counts) -> None:
        """Tell RQ that the worker lives. `counts` is what the worker has done since the last beat.

        Registers the worker again if RQ has dropped it. Raises Unavailable.
        """
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key, mapping={**self._fields, "state": state, "last_heartbeat": utcformat(now())})
            for counter, added in (("successful_job_count", counts.succeeded), ("failed_job_count", counts.failed)):
                if added:
                    pipe.hincrby(self._key, counter, added)
            if counts.worked:
                pipe.hincrbyfloat(self._key, "total_working_time", counts.worked)
            pipe.expire(self._key, ENTRY_TTL)
            for worker_set in self._worker_sets:
                pipe.sadd(worker_set, self._key)
            await pipe.execute()

    async def leave(self) -> None:
        """Tell RQ that the worker has stopped. Raises Unavailable."""
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            for worker_set in self._worker_sets:
                pipe.srem(worker_set, self._key)
            pipe.hset(self._key, "death", utcformat(now()))
            pipe.expire(self._key, ENTRY_TTL_AFTER_DEATH)
            pipe.delete(f"{self._key}:executions")
            await pipe.execute()
