"""What one reader of events is told: what there was, then what happens, without a gap and without repeats."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracker.errors import NotFound, TrackerError, Unavailable
from tracker.events.feed import BEGINNING, Event, Feed, Position, PositionedEvent, readable
from tracker.store.reconnect_backoff import ReconnectBackoff

if TYPE_CHECKING:
    from tracker.domain.record import Record
    from tracker.events.hub import EventHub, Follower
    from tracker.store.store import Store

HEARTBEAT = 15.0
"""Seconds without an event after which a reader is told how far it is."""
CHUNK = 100
"""Events of the history that are handed on at once."""


StreamItems = AsyncGenerator[Sequence["StreamItem"], None]


class TooSlow(TrackerError):
    """The reader left too many events untaken; what it missed is in the history."""


@dataclass(frozen=True, slots=True)
class StreamItem:
    """How far a reader is, with the event that has brought it there, if there is one.

    `reset`: what was between may be lost, as the history does not reach back to where the reader was.
    """

    position: Position
    event: Event | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events: a tenant's, those of one of its calls, or of one operation, which is given by its record."""

    tenant: str
    call_id: str | None = None
    record: "Record | None" = None

    @property
    def key(self) -> str | None:
        """The operation's internal key."""
        return None if self.record is None else self.record.key


class Stream:
    """One reader's stream. It ends by itself with its operation, and when this process stops."""

    def __init__(self, store: "Store", events: "EventHub", scope: Scope) -> None:
        self._store, self._events, self._scope = store, events, scope
        self._feed = Feed(store.redis, store.keys.feed(scope.tenant))
        self._last = BEGINNING
        self._revision = 0
        self._ended = False

    async def steps(self, resume: str | None) -> StreamItems:
        """Whatever a reader is to be told next; first what there is now, or since `resume`, a position as text.

        Nothing at all when that was the operation's last. Raises NotFound, Gone, TooSlow, and Unavailable while Redis
        is away, but not any more once it has begun.
        """
        scope = self._scope
        with self._events.follow(scope.tenant, call_id=scope.call_id, key=scope.key) as follower:
            async for chunk in self._begin(resume):
                yield chunk
            if self._ended or (resume is not None and await self._was_all()):
                return
            if resume is not None:
                yield [StreamItem(self._last)]
            async for chunk in self._go_on(follower):
                yield chunk

    async def _begin(self, resume: str | None) -> AsyncIterator[Sequence[StreamItem]]:
        after = None if resume is None else Position.read(resume)  # the beginning may be that of another, long gone
        if after is not None and after > BEGINNING and await self._feed.holds(after):
            self._last = after
            async for chunk in self._catch_up():
                yield chunk
        else:
            yield await self._state(reset=resume is not None)

    async def _was_all(self) -> bool:
        """Whether nothing more can come: the reader of one operation has been told of its end."""
        if self._scope.record is None:
            return False
        return (await self._look(self._scope.record)).status.final

    async def _go_on(self, follower: "Follower") -> AsyncIterator[Sequence[StreamItem]]:
        outage = ReconnectBackoff()
        while not (self._ended or follower.stopped):
            told = await follower.take(within=HEARTBEAT)
            if follower.behind or follower.missed:  # what was told is in the history too
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
            elif steps := self._new(told):
                yield steps
            else:
                self._last = max(self._last, self._events.end(self._scope.tenant))
                yield [StreamItem(self._last)]

    async def _recover(self) -> AsyncIterator[Sequence[StreamItem]]:
        """After a lost connection: what was told meanwhile."""
        if await self._feed.holds(self._last):
            async for chunk in self._catch_up():
                yield chunk
        else:
            yield await self._state(reset=True)

    async def _state(self, *, reset: bool = False) -> Sequence[StreamItem]:
        """Where the feed ends, and what the operation then is."""
        self._last = await self._feed.end()
        steps = [StreamItem(self._last, reset=True)] if reset else []
        if self._scope.record is None:
            return steps or [StreamItem(self._last)]
        try:
            event = Event.of(await self._look(self._scope.record))
        except NotFound:
            event = replace(Event.of(self._scope.record), gone=True)
        return [*steps, *self._new([PositionedEvent(self._last, event)], known=True)]

    async def _look(self, record: "Record") -> "Record":
        found = await self._store.find(self._scope.tenant, record.id)
        if found.key != record.key:
            raise NotFound(f"There is no operation '{record.id}' any more.")
        return found

    async def _catch_up(self) -> AsyncIterator[Sequence[StreamItem]]:
        """What the history has after where the reader is."""
        chunk: list[PositionedEvent] = []
        scope, last = self._scope, self._last
        async for position, line in self._feed.after(self._last):
            key, _, rest = line.partition("\t")
            if scope.key in {None, key} and scope.call_id in {None, rest.partition("\t")[0]}:
                event = readable(line)
                chunk += [] if event is None else [PositionedEvent(position, event)]
            if len(chunk) == CHUNK:
                yield self._new(chunk)
                chunk = []
            last = position
        steps = self._new(chunk)
        self._last = last
        if steps:
            yield steps

    def _new(self, told: Sequence[PositionedEvent], *, known: bool = False) -> list[StreamItem]:
        """What of this the reader has not been told; `known` for what is no place in the feed."""
        steps = []
        for position, event in told:
            if self._ended or not (known or position > self._last):
                continue
            if self._scope.record is not None:
                if event.revision <= self._revision and not event.gone:
                    continue
                self._revision = event.revision
                self._ended = event.gone or event.status.final
            self._last = position
            steps.append(StreamItem(position, event))
        return steps
