"""A follower: the queue of events for the reader of one stream."""

import asyncio
from collections import deque
from collections.abc import Sequence

from tracker.events.feed import PositionedEvent
from tracker.runtime.budgets import Budgets

MOST_BEHIND = 1000
"""How many events a follower may leave untaken at most."""


class Follower:
    """A queue of events for one reader. A reader that takes them too slowly loses them all, and `behind` says so.

    The events of all followers of a process have a budget in bytes, which tenants share, and those of one follower have
    their own.
    """

    __slots__ = ("_budgets", "_events", "_size", "_tenant", "_wanted", "behind", "missed", "stopped")

    def __init__(self, tenant: str, budgets: Budgets) -> None:
        self._tenant, self._budgets = tenant, budgets
        self._events: deque[PositionedEvent] = deque()
        self._size = 0
        self._wanted: asyncio.Future[None] | None = None
        self.behind = False
        """Whether events were lost because too many were left untaken."""
        self.missed = False
        """Whether events may have been lost with the connection to Redis. The reader resets it."""
        self.stopped = False
        """Whether this process stops listening."""

    def offer(self, events: Sequence[PositionedEvent], size: int) -> None:
        """Add events that have this size together, in bytes."""
        if not self.behind:
            if self._has_room(len(events), size):
                self._events.extend(events)
                self._size += size
            else:
                self.behind = True
                self.clear()
        self.wake()

    def clear(self) -> None:
        """Drop all events."""
        self._events.clear()
        if self._size:
            self._budgets.events.give_back(self._tenant, self._size)
            self._size = 0

    def _has_room(self, number: int, size: int) -> bool:
        return (
            len(self._events) + number <= MOST_BEHIND
            and self._size + size <= self._budgets.stream_bytes
            and self._budgets.events.take(self._tenant, size)
        )

    def wake(self) -> None:
        """Let `take` return now."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def take(self, *, within: float) -> Sequence[PositionedEvent]:
        """Take all events, as soon as there is one.

        Returns also when `behind`, `missed` or `stopped` is set, and without events after `within` seconds.
        """
        if not (self._events or self.behind or self.missed or self.stopped):
            loop = asyncio.get_running_loop()
            self._wanted = loop.create_future()
            timer = loop.call_later(within, self.wake)
            try:
                await self._wanted
            finally:
                timer.cancel()
        events = list(self._events)
        self.clear()
        return events
