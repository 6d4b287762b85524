"""Streams of events for one reader: first the history, then live events, without gaps and repeats."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracker.errors import NotFound, TrackerError, Unavailable
from tracker.events.feed import BEGINNING, Event, Position, PositionedEvent, readable
from tracker.events.history import Feed, FeedReader
from tracker.runtime.loop_slices import LoopSlice
from tracker.store.reconnect_backoff import ReconnectBackoff

if TYPE_CHECKING:
    from tracker.domain.record import Record
    from tracker.events.follower import Follower
    from tracker.events.hub import EventHub
    from tracker.store.store import Store

HEARTBEAT = 15.0
"""Seconds without an event after which a reader gets its position."""
PATIENCE = 15.0
"""The longest time that a resumed stream waits for its next read of the history while others are read, in seconds."""


StreamItems = AsyncGenerator[Sequence["StreamItem"], None]


class TooSlow(TrackerError):
    """The reader left too many events untaken. The history has the events that it missed."""


@dataclass(frozen=True, slots=True)
class StreamItem:
    """A reader's position, with the event at that position, if there is one.

    `reset`: events between the reader's last position and this one may be lost, because the history is not that long.
    """

    position: Position
    event: Event | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events a reader wants: those of a tenant, of one of its calls, or of the operation of `record`."""

    tenant: str
    call_id: str | None = None
    record: "Record | None" = None

    @property
    def key(self) -> str | None:
        """The internal key of the operation, if the scope is one operation."""
        return None if self.record is None else self.record.key


class Stream:
    """The stream of one reader. It ends with its operation, and when this process stops."""

    def __init__(self, store: "Store", events: "EventHub", scope: Scope) -> None:
        self._store, self._events, self._scope = store, events, scope
        self._feed = Feed(store.redis, store.keys.feed(scope.tenant), store.feed_length)
        self._last = BEGINNING
        self._revision = 0
        self._ended = False

    async def items(self, resume: str | None) -> StreamItems:
        """The items of the stream: first the present state, or the events after `resume`, a position as text.

        There are no items when `resume` is the position of the operation's last event. Raises NotFound, Gone, TooSlow,
        and Unavailable while Redis is away; once the stream has begun, it waits for Redis instead.
        """
        scope = self._scope
        with self._events.follow(scope.tenant, call_id=scope.call_id, key=scope.key) as follower:
            async for chunk in self._begin(resume):
                yield chunk
            if self._ended or (resume is not None and await self._has_ended()):
                return
            if resume is not None:
                yield [StreamItem(self._last)]
            async for chunk in self._follow(follower):
                yield chunk

    async def _begin(self, resume: str | None) -> AsyncIterator[Sequence[StreamItem]]:
        after = None if resume is None else Position.read(resume)  # position 0 may be that of a feed long gone
        if after is not None and after > BEGINNING and await self._feed.holds(after):
            self._last = after
            async for chunk in self._catch_up():
                yield chunk
        else:
            yield await self._present(reset=resume is not None)

    async def _has_ended(self) -> bool:
        """Whether the reader of one operation has got the event of its end, so that no more events come."""
        if self._scope.record is None:
            return False
        return (await self._read(self._scope.record)).status.final

    async def _follow(self, follower: "Follower") -> AsyncIterator[Sequence[StreamItem]]:
        outage = ReconnectBackoff()
        while not (self._ended or follower.stopped):
            items = await self._live(follower)
            if items is None:
                behind, follower.behind, follower.missed = follower.behind, False, False
                try:
                    if behind and not await self._feed.holds(self._last):
                        raise TooSlow("Events were taken too slowly.")
                    async for chunk in self._recover():
                        yield chunk
                    outage.over()
                except Unavailable:
                    follower.missed = True
                    await outage.wait()
            else:
                yield items
            items = ()  # while the stream waits for more, these are in nobody's memory

    async def _live(self, follower: "Follower") -> Sequence[StreamItem] | None:
        """The next items: events, or the reader's position. None if the history has to be read for them."""
        events = await follower.take(within=HEARTBEAT)
        if follower.behind or follower.missed:
            return None
        if items := self._unseen(events):
            return items
        self._last = max(self._last, self._events.latest_position(self._scope.tenant))
        return [StreamItem(self._last)]

    async def _recover(self) -> AsyncIterator[Sequence[StreamItem]]:
        """The events that were published while the connection was lost."""
        if await self._feed.holds(self._last):
            async for chunk in self._catch_up():
                yield chunk
        else:
            yield await self._present(reset=True)

    async def _present(self, *, reset: bool = False) -> Sequence[StreamItem]:
        """The present end of the feed, and the operation as it is then."""
        self._last = await self._feed.end()
        items = [StreamItem(self._last, reset=True)] if reset else []
        if self._scope.record is None:
            return items or [StreamItem(self._last)]
        try:
            event = Event.of(await self._read(self._scope.record))
        except NotFound:
            event = replace(Event.of(self._scope.record), gone=True)
        return [*items, *self._unseen([PositionedEvent(self._last, event)], present=True)]

    async def _read(self, record: "Record") -> "Record":
        found = await self._store.find(self._scope.tenant, record.id)
        if found.key != record.key:
            raise NotFound(f"There is no operation '{record.id}' any more.")
        return found

    async def _catch_up(self) -> AsyncIterator[Sequence[StreamItem]]:
        """The events of the history after the reader's position. A reset if they are dropped before they are read."""
        reader = self._feed.after(self._last)
        while reader.more and not self._ended:
            if items := await self._next_part(reader):
                yield items
        if reader.lost:
            yield await self._present(reset=True)

    async def _next_part(self, reader: FeedReader) -> Sequence[StreamItem]:
        """The events of the next part of the history. Tenants share the reads of a process."""
        reads = self._events.budgets.history_reads
        async with reads.acquired(self._scope.tenant, "Too many streams resume; try again.", within=PATIENCE):
            entries = await reader.read()
            items = self._unseen([event async for event in self._wanted(entries)])
        if entries:
            entry, text = entries[-1]
            self._last = max(self._last, Position.of(entry, text.count("\n") + 1))
        return items

    async def _wanted(self, entries: Sequence[tuple[str, str]]) -> AsyncIterator[PositionedEvent]:
        """The events of these entries that the reader wants, decoded in slices of the event loop."""
        loop_slice, scope = LoopSlice(), self._scope
        mark = scope.key or ("" if scope.call_id is None else f"\t{scope.call_id}\t")
        for entry, text in entries:
            if mark not in text:  # for speed: most entries are about other operations
                continue
            for number, line in enumerate(text.split("\n"), 1):
                key, _, rest = line.partition("\t")
                if scope.key in {None, key} and scope.call_id in {None, rest.partition("\t")[0]}:
                    event = readable(line)
                    if event is not None:
                        yield PositionedEvent(Position.of(entry, number), event)
                if loop_slice.is_over:
                    await loop_slice.rest()

    def _unseen(self, events: Sequence[PositionedEvent], *, present: bool = False) -> list[StreamItem]:
        """Those events that the reader has not got yet.

        `present`: the event is the present state, and its position is the end of the feed.
        """
        items = []
        for position, event in events:
            if self._ended or not (present or position > self._last):
                continue
            if self._scope.record is not None:
                if event.revision <= self._revision and not event.gone:
                    continue
                self._revision = event.revision
                self._ended = event.gone or event.status.final
            self._last = position
            items.append(StreamItem(position, event))
        return items
