"""Which workers live, and what they can run, as they say themselves. RQ's own workers do not appear here."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracker.domain.operation import Json
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.store.store import Store

LIVES_FOR = 60
"""Seconds that a worker which says nothing still counts as alive."""
KNOWN_FOR = 600
"""Seconds for which a worker that was killed is still known as one of ours: longer than RQ believes that it lives."""
SILENT_AFTER = 25
"""Seconds after which one is perhaps gone: it should have spoken many times."""


class WorkerRegistry:
    """The workers' own words. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: "Store") -> None:
        self._redis, self._keys = store.redis, store.keys

    async def announce(self, name: str, about: Json) -> None:
        """Say that a worker lives, and what it is."""
        async with answering():
            now = await self._now()
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(self._keys.worker(name), json.dumps(about), ex=LIVES_FOR)
                pipe.zadd(self._keys.workers, {name: now})
                pipe.zremrangebyscore(self._keys.workers, "-inf", now - KNOWN_FOR)
                await pipe.execute()

    async def gone(self, name: str) -> None:
        """Say that a worker has ended."""
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._keys.worker(name))
            pipe.zrem(self._keys.workers, name)
            await pipe.execute()

    async def live(self) -> Mapping[str, Json]:
        """What each worker that lives says of itself, by name.

        `silent` is added: for how many seconds it has said nothing.
        """
        silent = await self.known()
        async with answering():
            told = await self._redis.mget([self._keys.worker(name) for name in silent]) if silent else []
        return {
            name: {**json.loads(about), "silent": silent[name]}
            for name, about in zip(silent, told, strict=True)
            if about
        }

    async def known(self) -> Mapping[str, int]:
        """For how many seconds each worker of ours has been silent, by name: also those that died unheard of late."""
        async with answering():
            now = await self._now()
            heard: list[Any] = await self._redis.zrange(
                self._keys.workers, f"({now - KNOWN_FOR}", "+inf", byscore=True, withscores=True
            )
        return {str(name): max(0, now - int(last)) for name, last in heard}

    async def _now(self) -> int:
        """Seconds since 1970, by the server's clock, which is the same for all workers."""
        seconds, _ = await self._redis.time()
        return int(seconds)
