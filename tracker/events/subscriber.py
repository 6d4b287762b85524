"""Listening to what is published in Redis, for ever."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from tracker.errors import Unavailable
from tracker.store.reconnect_backoff import ReconnectBackoff
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

CHECK_EVERY = 10.0
"""Seconds of silence after which the connection is asked whether it still lives, and then to wait for its answer."""


async def listen(
    redis: "Redis", *channels: str, heard: Callable[[str, str], None], connected: Callable[[bool], None]
) -> None:
    """Hand on every message with its channel, on a connection of its own; survives every outage of Redis.

    `connected` is told True for each channel whenever it is subscribed to, and False when the connection is given up:
    either way something may have been missed.
    """
    outage = ReconnectBackoff()
    while True:
        try:
            async with answering(within=None), redis.pubsub() as subscription:
                await subscription.subscribe(*channels)
                outage.over()
                await _hear(subscription, heard, connected)
        except Unavailable as error:
            log.debug("subscription_interrupted", channels=channels, reason=str(error.__cause__ or error))
        except Exception:
            log.exception("subscription_failed", channels=channels)
        connected(False)
        await outage.wait()


async def _hear(subscription: Any, heard: Callable[[str, str], None], connected: Callable[[bool], None]) -> None:
    """Raises Unavailable for a connection that is silent even when it is asked: it may be gone, unknown to us.

    Reads the connection itself: `get_message` would do much for each message so that it can connect again by itself,
    which `listen` does.
    """
    asked = False
    while True:
        answer = await subscription.connection.read_response(timeout=CHECK_EVERY, push_request=True)
        if answer is None and asked:
            raise Unavailable("The store does not answer.")
        asked = answer is None
        match answer:
            case None:
                await subscription.ping()
            case ["message", channel, text]:
                heard(channel, str(text))
                await asyncio.sleep(0)  # of many that are there already, none holds up those whom it is for
            case ["subscribe", *_]:
                connected(True)
