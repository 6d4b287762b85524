"""A worker in RQ's books: what `rq info` and dashboards show of it. In RQ's own form; a test compares."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rq.utils import now, utcformat

from tracker.store.scripts import answering
from workers.completer import Counts

if TYPE_CHECKING:
    from redis.asyncio import Redis

LIVES_FOR = 480
"""Seconds that RQ believes in a worker which says nothing (its default, and what stock workers use)."""


class RqPresence:
    """Writes what stock workers write: the worker's hash with heartbeat, state and counters, and the sets it is in."""

    def __init__(self, redis: "Redis", *, key: str, about: Mapping[str, Any], registers: list[str]) -> None:
        self._redis, self._key, self._registers = redis, key, registers
        self._about: dict[Any, Any] = {name: "" if value is None else value for name, value in about.items()}

    def stopping(self) -> None:
        """It was told to stop, now; RQ learns that with the next beat."""
        self._about.setdefault("shutdown_requested_date", utcformat(now()))

    async def beat(self, state: str, done: Counts) -> None:
        """Tell RQ that the worker lives, and what it has done since the last time.

        Registers it anew where RQ forgot it. Raises Unavailable.
        """
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key, mapping={**self._about, "state": state, "last_heartbeat": utcformat(now())})
            for counter, more in (("successful_job_count", done.succeeded), ("failed_job_count", done.failed)):
                if more:
                    pipe.hincrby(self._key, counter, more)
            if done.worked:
                pipe.hincrbyfloat(self._key, "total_working_time", done.worked)
            pipe.expire(self._key, LIVES_FOR)
            for register in self._registers:
                pipe.sadd(register, self._key)
            await pipe.execute()

    async def leave(self) -> None:
        """Tell RQ that the worker is gone; its counters stay for a minute, as RQ does it. Raises Unavailable."""
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            for register in self._registers:
                pipe.srem(register, self._key)
            pipe.hset(self._key, "death", utcformat(now()))
            pipe.expire(self._key, 60)
            pipe.delete(f"{self._key}:executions")
            await pipe.execute()
