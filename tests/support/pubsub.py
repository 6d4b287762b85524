"""What is published on a channel, read up to a message that the test publishes last."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from tests.support.waiting import LONGEST_WAIT

END = "the end of what the test reads"


class Subscription:
    """One client's subscription to one channel."""

    def __init__(self, redis: Redis, listener: Any, channel: str) -> None:
        self._redis, self._listener, self._channel = redis, listener, channel

    async def texts(self) -> list[str]:
        """Every message since the last call."""
        await self._redis.publish(self._channel, END)
        texts: list[str] = []
        while (text := await self._next()) != END:
            texts.append(text)
        return texts

    async def _next(self) -> str:
        message = await self._listener.get_message(timeout=LONGEST_WAIT)
        assert message is not None, "the last message has not come"
        return str(message["data"])


@asynccontextmanager
async def subscribed(redis: Redis, channel: str) -> AsyncIterator[Subscription]:
    """Subscribe to a channel until the block ends."""
    async with redis.pubsub() as listener:
        await listener.subscribe(channel)
        assert (await listener.get_message(timeout=LONGEST_WAIT))["type"] == "subscribe"
        yield Subscription(redis, listener, channel)
