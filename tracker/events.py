"""One Redis subscription per process, fanned out to everybody here who waits for an operation."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracker.subscription import listen

if TYPE_CHECKING:
    from redis.asyncio import Redis


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
        await listen(self._redis, self._channel, heard=self._heard, connected=self._connected)

    def _heard(self, _: str, text: str) -> None:
        self._wake(text.partition(" ")[0])

    def _connected(self, there: bool) -> None:  # noqa: FBT001 - what `listen` tells
        if there:
            self.subscribed.set()
        else:
            self.subscribed.clear()
        self._wake_all()

    def _wake(self, key: str) -> None:
        for event in self._watchers.get(key, ()):
            event.set()

    def _wake_all(self) -> None:
        for key in self._watchers:
            self._wake(key)
