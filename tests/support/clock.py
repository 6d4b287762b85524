"""A clock of the scripts that a test can advance."""

from redis.asyncio import Redis


class Clock:
    """The offset that scripts add to the server's time when `Settings.test_clock` is set."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis, self._key = redis, key

    async def advance(self, seconds: float) -> None:
        """Add so many seconds to the time of the scripts."""
        await self._redis.incrby(self._key, round(seconds * 1_000_000))
