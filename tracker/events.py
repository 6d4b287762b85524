"""One Redis subscription per process, fanned out to everybody here who waits for an operation."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from tracker.errors import Unavailable
from tracker.scripts import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

RECONNECT_AFTER = 0.5
CHECK_EVERY = 10.0
"""Seconds of silence after which redis-py asks whether the connection still lives."""


class Events:
    """Wakes whoever watches an operation when its record changes.

    A wake-up says only "look again": after a lost connection everybody is woken, since changes may have
    been missed.
    """

    def __init__(self, redis: "Redis", channel: str) -> None:
        self._redis, self._channel = redis, channel
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.subscribed = asyncio.Event()

    @contextmanager
    def watch(self, key: str) -> Iterator[asyncio.Event]:
        """Watch one operation, by its internal key. The event is set by every change from now on."""
        event = asyncio.Event()
        self._watchers[key].add(event)
        try:
            yield event
        finally:
            self._watchers[key].discard(event)
            if not self._watchers[key]:
                del self._watchers[key]

    async def run(self) -> None:
        """Listen until cancelled; survives every outage of Redis."""
        while True:
            try:
                async with answering(within=None), self._redis.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    await self._listen(subscription)
            except Unavailable as error:
                log.debug("events_interrupted", reason=str(error.__cause__))
            self.subscribed.clear()
            self._wake_all()
            await asyncio.sleep(RECONNECT_AFTER)

    async def _listen(self, subscription: Any) -> None:
        """Hand on what comes. redis-py mends a lost connection by itself; a new "subscribe" tells of it."""
        while True:
            with suppress(TimeoutError):
                message = await subscription.get_message(timeout=CHECK_EVERY)
                if message is None:
                    continue
                if message["type"] == "message":
                    self._wake(str(message["data"]).partition(" ")[0])
                else:
                    self.subscribed.set()
                    self._wake_all()

    def _wake(self, key: str) -> None:
        for event in self._watchers.get(key, ()):
            event.set()

    def _wake_all(self) -> None:
        for key in self._watchers:
            self._wake(key)
