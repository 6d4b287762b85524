"""Waits for changes of one record, for requests whose response waits (`Prefer: wait`, RFC 7240, 4.3)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tracker.domain.record import Record
from tracker.errors import Unavailable
from tracker.events.feed import record_after_end
from tracker.events.hub import EventHub, Waiters


class HubPosition(NamedTuple):
    """Positions in this process's event stream: how many messages with changes, and with ends, it has received.

    A request takes a position before it reads a record. A later wait compares it with the present position, and so
    notices events that arrived in between.
    """

    changes: int
    ends: int


BEFORE_ALL = HubPosition(-1, -1)
"""The position for a request that has taken none. The wait then begins with reading the record again."""


class RecordWaiter:
    """Waits until a record has changed or has ended.

    `reread` reads a record anew, as its caller may see it. It raises NotFound or Gone when the operation is no longer
    visible, and Unavailable while Redis is away.
    """

    def __init__(self, hub: EventHub, reread: Callable[[Record], Awaitable[Record]]) -> None:
        self._hub, self._reread = hub, reread

    @property
    def position(self) -> HubPosition:
        """The present position, for a wait that begins later."""
        return HubPosition(self._hub.changes.recent.position, self._hub.ends.recent.position)

    async def until_changed(self, known: Record, *, seconds: float, since: HubPosition) -> Record:
        """Wait until the record differs from `known`, for at most `seconds`; return the record as it is then.

        Returns at once when the operation has ended, and when the hub has stopped. Raises what `reread` raises.
        """
        return await self._wait(
            self._hub.changes, known, seconds=seconds, since=since.changes, until=lambda now: now.etag != known.etag
        )

    async def until_ended(self, known: Record, *, seconds: float, since: HubPosition) -> Record:
        """Wait until the operation has ended, for at most `seconds`; return the record as it is then.

        While Redis is away, and after the hub has stopped, that is the latest record that this process knows.
        """
        record = await self._wait(self._hub.ends, known, seconds=seconds, since=since.ends, until=lambda _: False)
        changed = self._hub.changes.recent.changed_since(since.changes, known.key)
        if changed and not record.status.final and not self._hub.stopped:
            with contextlib.suppress(Unavailable):
                record = await self._reread(known)
        return record

    async def _wait(
        self, waiters: Waiters, known: Record, *, seconds: float, since: int, until: Callable[[Record], bool]
    ) -> Record:
        """Read the record again after each event for its key, until `until(record)` holds or the time is up."""
        loop = asyncio.get_running_loop()
        deadline, record = loop.time() + seconds, known
        while True:
            with waiters.next_change(known.key) as change:
                if waiters.recent.changed_since(since, known.key):
                    since = waiters.recent.position
                    record = await self._reread(known)
                left = deadline - loop.time()
                if until(record) or record.status.final or left <= 0 or self._hub.stopped:
                    return record
                if (line := await change.within(left)) and (final := record_after_end(record, line)):
                    return final
