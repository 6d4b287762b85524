"""A subscriber to channels of Redis that reconnects after every outage."""

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
"""Seconds without a message after which a PING is sent, and the longest time to wait for its reply."""


async def listen(
    redis: "Redis", *channels: str, on_message: Callable[[str, str], None], on_connection: Callable[[bool], None]
) -> None:
    """Receive messages on a connection of its own, until cancelled. Outages of Redis do not end the call.

    `on_message` is called with channel and text of each message. `on_connection` is called with True for each channel
    that is subscribed to, and with False when the connection is given up. Either way messages may have been missed.
    """
    outage = ReconnectBackoff()
    while True:
        try:
            async with answering(within=None), redis.pubsub() as subscription:
                await subscription.subscribe(*channels)
                outage.over()
                await _receive(subscription, on_message, on_connection)
        except Unavailable as error:
            log.debug("subscription_interrupted", channels=channels, reason=str(error.__cause__ or error))
        except Exception:
            log.exception("subscription_failed", channels=channels)
        on_connection(False)
        await outage.wait()


async def _receive(
    subscription: Any, on_message: Callable[[str, str], None], on_connection: Callable[[bool], None]
) -> None:
    """Receive messages of one connection. Raises Unavailable when the connection does not answer a PING.

    Plain code is `subscription.get_message()`. It does more for each message, so that it can reconnect by itself, which
    `listen` does here (benchmarks.waits: processor time per message).
    """
    asked = False
    while True:
        received = await subscription.connection.read_response(timeout=CHECK_EVERY, push_request=True)
        if received is None and asked:
            raise Unavailable("The store does not answer.")
        asked = received is None
        match received:
            case None:
                await subscription.ping()
            case ["message", channel, text]:
                on_message(channel, str(text))
                await asyncio.sleep(0)  # lets woken tasks run before the next of many messages
            case ["subscribe", *_]:
                on_connection(True)
