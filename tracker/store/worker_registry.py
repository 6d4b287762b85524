"""The registry of live workers and of the types that they can run. RQ's own workers do not register here."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracker.domain.operation import Json
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.store.store import Store

LIVES_FOR = 60
"""A worker counts as alive until this many seconds after its last announcement."""
KNOWN_FOR = 600
"""A worker is forgotten this many seconds after its last announcement. RQ forgets it earlier."""
SILENT_AFTER = 25
"""A worker is reported as silent after this many seconds without an announcement. They come every few seconds."""


class WorkerRegistry:
    """Announcements of workers. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: "Store") -> None:
        self._redis, self._keys = store.redis, store.keys

    async def announce(self, name: str, about: Json) -> None:
        """Announce that a worker lives. `about` describes the worker, as `live` returns it."""
        async with answering():
            now = await self._now()
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(self._keys.worker(name), json.dumps(about), ex=LIVES_FOR)
                pipe.zadd(self._keys.workers, {name: now})
                pipe.zremrangebyscore(self._keys.workers, "-inf", now - KNOWN_FOR)
                await pipe.execute()

    async def gone(self, name: str) -> None:
        """Remove a worker that has ended."""
        async with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._keys.worker(name))
            pipe.zrem(self._keys.workers, name)
            await pipe.execute()

    async def live(self) -> Mapping[str, Json]:
        """The descriptions of live workers, by name.

        `silent` is added to each: the seconds since its last announcement.
        """
        silent = await self.known()
        async with answering():
            descriptions = await self._redis.mget([self._keys.worker(name) for name in silent]) if silent else []
        return {
            name: {**json.loads(about), "silent": silent[name]}
            for name, about in zip(silent, descriptions, strict=True)
            if about
        }

    async def known(self) -> Mapping[str, int]:
        """The seconds since the last announcement of each known worker, by name. Some of them may have died."""
        async with answering():
            now = await self._now()
            announced: list[Any] = await self._redis.zrange(
                self._keys.workers, f"({now - KNOWN_FOR}", "+inf", byscore=True, withscores=True
            )
        return {str(name): max(0, now - int(last)) for name, last in announced}

    async def _now(self) -> int:
        """The time in seconds by the server's clock, which is the same for all workers."""
        seconds, _ = await self._redis.time()
        return int(seconds)
