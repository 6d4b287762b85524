"""A worker's entry in RQ's registry of workers, for `rq info` and RQ's dashboards.

It has RQ's own form (rq/worker/base.py). tests/contract compares it with what RQ's own worker writes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rq.utils import now, utcformat

from tracker.store.scripts import answering
from workers.completer import Counts

if TYPE_CHECKING:
    from redis.asyncio import Redis

ENTRY_TTL = 480
"""How long the entry stays without a beat, in seconds, as in RQ: its DEFAULT_WORKER_TTL and a minute."""
ENTRY_TTL_AFTER_DEATH = 60
"""How long a stopped worker's entry stays, in seconds, as in RQ."""


class RqPresence:
    """Writes what RQ's own workers write: a hash with heartbeat, state and counters, and the sets of workers.

    `key` is the key of the hash. `fields` are those of its fields that do not change. `worker_sets` are the keys of the
    sets.
    """

    def __init__(self, redis: "Redis", *, key: str, fields: Mapping[str, Any], worker_sets: list[str]) -> None:
        self._redis, self._key, self._worker_sets = redis, key, worker_sets
        self._fields: dict[Any, Any] = {name: "" if value is None else value for name, value in fields.items()}

    def note_stop_request(self) -> None:
        """Note that the worker was asked to stop just now. The next beat tells RQ."""
        self._fields.setdefault("shutdown_requested_date", utcformat(now()))

    async def beat(self, state: str, counts: Counts) -> None:
        """Tell RQ that the worker lives, and what it has done since the last beat.

        Registers the worker again if RQ has dropped it. Raises Unavailable.
        """
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key, mapping={**self._fields, "state": state, "last_heartbeat": utcformat(now())})
            for counter, more in (("successful_job_count", counts.succeeded), ("failed_job_count", counts.failed)):
                if more:
                    pipe.hincrby(self._key, counter, more)
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
