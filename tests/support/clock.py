"""Time that a test can move, without waiting for it."""

from redis.asyncio import Redis


class Clock:
    """The offset that scripts add to the server's time, where they are compiled for tests."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis, self._key = redis, key

    async def advance(self, seconds: float) -> None:
        """Let that many seconds pass."""
        await self._redis.incrby(self._key, round(seconds * 1_000_000))
