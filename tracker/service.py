"""The use cases: what a caller can do with operations, in the caller's own tenant."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from tracker import fitness, lifecycle, steps
from tracker.arrows import Arrow
from tracker.background import beside
from tracker.calls import Calls
from tracker.connection import open_redis
from tracker.drafts import check_call_id, read_draft
from tracker.errors import NotFound, PreconditionFailed, Refused, Unavailable
from tracker.events import Events
from tracker.log import transition
from tracker.model import Json, OperationStatus, Record
from tracker.pace import Pace
from tracker.store import Store
from tracker.streams import Scope, Steps, Stream
from tracker.sweeper import Sweeper
from tracker.types import Catalogue
from tracker.urls import load_catalogue

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.lifecycle import Change

TRIES = 20
"""How often a change is decided anew when the record moves between reading and writing."""
REASON_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's name, and the tenant whose operations exist for it."""

    name: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Query:
    """What a list shall hold: at most `top` operations after `cursor` that match every filter given."""

    status: OperationStatus | None = None
    client_context: str | None = None
    top: int = 100
    count: bool = False
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. `cursor` is where the next part starts, `count` all that match, before paging."""

    records: Sequence[Record]
    cursor: int | None
    count: int | None


class Operations:
    """Every method raises Unavailable while Redis is away, and NotFound or Gone for an id it cannot show."""

    def __init__(self, store: Store, events: Events, catalogue: Catalogue, settings: "Settings") -> None:
        self._store, self._events, self._catalogue, self._settings = store, events, catalogue, settings
        self._calls = Calls(store)
        self.pace = Pace(store)
        events.overhear = self.pace.hear

    async def ready(self) -> None:
        """Whether work can be accepted: Redis answers and the scripts are loaded."""
        await self._store.ready()

    async def create(self, caller: Caller, call_id: str, body: Json) -> tuple[Record, bool]:
        """Accept an operation: it is stored, and queued unless it has to wait, when this returns.

        Returns the record and whether it is new; the same id, call and body again is the stored one. Raises
        Invalid naming every wrong member, Conflict when the id is taken.
        """
        check_call_id(call_id)
        accept_unknown = self._settings.unknown_types == "accept"
        draft = read_draft(call_id, body, self._catalogue, accept_unknown=accept_unknown)
        key = uuid4()
        record = Record(
            key=key.hex,
            tenant=caller.tenant,
            call_id=call_id,
            id=draft.id or str(key),
            type=draft.type.name,
            digest=draft.digest,
            policy=draft.type.policy(retention=self._settings.retention, tombstone=self._settings.tombstone),
            client_context=draft.client_context,
            members=draft.members,
            result_info=draft.result_info,
            not_before=draft.not_before,
        )
        stored, new = await self._store.create(record, delay=draft.delay)
        steps.reach(steps.AFTER_CREATE)
        if new:
            transition(Arrow.CREATE, stored, caller=caller.name)
        return stored, new

    async def get(self, caller: Caller, call_id: str, operation_id: str) -> Record:
        """One operation of one call."""
        record = await self._store.find(caller.tenant, operation_id)
        if record.call_id != call_id:
            raise NotFound(f"There is no operation '{operation_id}' in this call.")
        return record

    async def find(self, caller: Caller, operation_id: str) -> Record:
        """One operation by its id alone."""
        return await self._store.find(caller.tenant, operation_id)

    async def list(self, caller: Caller, call_id: str, query: Query) -> Page:
        """A call's operations, newest first."""
        check_call_id(call_id)
        filters = {"status": query.status, "client_context": query.client_context}
        part = await self._calls.page(caller.tenant, call_id, **filters, cursor=query.cursor, top=query.top)
        count = await self._calls.count(caller.tenant, call_id, **filters) if query.count else None
        return Page(part.records, part.cursor, count)

    async def cancel(self, caller: Caller, call_id: str | None, operation_id: str, *, reason: str = "") -> Record:
        """Ask an operation to stop; asking again, or asking a finished one, changes nothing."""
        for _ in range(TRIES):
            record = await self._lookup(caller, call_id, operation_id)
            if record.status.final or record.cancel_requested:
                return record
            with contextlib.suppress(Refused):
                return await self._apply(
                    lifecycle.request_cancel(record, reason[:REASON_LIMIT], by=caller.name), caller
                )
        raise Unavailable("The operation changes too fast; try again.")

    async def delete(self, caller: Caller, call_id: str, operation_id: str, *, if_match: str | None = None) -> None:
        """Hide an operation from everybody, after canceling it if it has not ended.

        `if_match` is the header's value; raises PreconditionFailed when it names another revision.
        """
        for _ in range(TRIES):
            record = await self._lookup(caller, call_id, operation_id)
            revision = None
            if if_match is not None and if_match.strip() != "*":
                if not etag_matches(if_match, record):
                    raise PreconditionFailed("The operation has changed since; its ETag is another now.")
                revision = record.revision
            with contextlib.suppress(Refused):
                await self._apply(lifecycle.hide(record, revision=revision, by=caller.name), caller)
                return
        raise Unavailable("The operation changes too fast; try again.")

    @property
    def mark(self) -> int:
        """Taken before a record is read, it lets `wait` begin without reading it again."""
        return self._events.heard.mark

    async def wait(self, caller: Caller, known: Record, *, seconds: float, mark: int = -1) -> Record:
        """Wait until an operation's record is another than `known`, or time is up; return it as it then is.

        What has ended is answered at once: it does not change any more. So is everything once `release` was called.
        """
        loop = asyncio.get_running_loop()
        deadline, record = loop.time() + seconds, known
        while True:
            with self._events.expect(known.key) as change:
                if self._events.heard.since(mark, known.key):
                    mark = self.mark
                    record = await self.get(caller, known.call_id, known.id)
                left = deadline - loop.time()
                if record.etag != known.etag or record.status.final or left <= 0 or self._events.stopped:
                    return record
                timer = loop.call_later(left, change.end)
                try:
                    await change.came
                finally:
                    timer.cancel()

    async def follow(
        self, caller: Caller, *, call_id: str | None = None, operation_id: str | None = None, resume: str | None = None
    ) -> Steps:
        """What happens to the tenant's operations, to those of a call, or to one of them: see `Stream.steps`."""
        record = None
        if call_id is not None:
            check_call_id(call_id)
            record = None if operation_id is None else await self.get(caller, call_id, operation_id)
        return Stream(self._store, self._events, Scope(caller.tenant, call_id, record)).steps(resume)

    def release(self) -> None:
        """Let nobody wait any more: the process ends."""
        self._events.stop()

    async def _lookup(self, caller: Caller, call_id: str | None, operation_id: str) -> Record:
        if call_id is None:
            return await self.find(caller, operation_id)
        return await self.get(caller, call_id, operation_id)

    async def _apply(self, change: "Change", caller: Caller) -> Record:
        after = await self._store.apply(change)
        transition(change.arrow, after, caller=caller.name)
        return after


def etag_matches(header: str, record: Record) -> bool:
    """Whether an If-Match or If-None-Match list names the record's revision, compared weakly."""
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return any(tag in {"*", record.etag.removeprefix("W/")} for tag in tags)


@asynccontextmanager
async def open_operations(settings: "Settings") -> AsyncIterator[Operations]:
    """The service over its own connections, with the sweeper and the event feed in the background.

    Starts while Redis is away; raises ConfigurationError for types that do not load.
    """
    catalogue = load_catalogue(settings)
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        events = Events(redis, store.keys.events)
        operations = Operations(store, events, catalogue, settings)
        async with beside(events.run(), operations.pace.run(), Sweeper(store).run(), fitness.report(redis)):
            yield operations
