"""The use cases: what a caller can do with operations, in the caller's own tenant."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from tracker.bodies.create import CreateRequest, check_call_id, read_create
from tracker.bodies.patch import read_patch
from tracker.bodies.preconditions import ANY, Preconditions
from tracker.domain import lifecycle
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import TypeRegistry
from tracker.errors import NotFound, Refused, Unavailable
from tracker.events.feed import ended
from tracker.events.hub import EventHub, Waiters
from tracker.events.stream import Scope, Stream, StreamItems
from tracker.listing.conditions import Condition
from tracker.listing.pager import ListQuery, Page, Pager
from tracker.log import log_transition
from tracker.maintenance.sweeper import Sweeper
from tracker.retry_after import RetryAfterEstimator
from tracker.runtime import failpoints
from tracker.runtime.background import beside
from tracker.store import server_check
from tracker.store.codec import as_uuid, new_key
from tracker.store.connection import open_redis
from tracker.store.create_args import CreateArgs
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.keys import once_digest
from tracker.store.store import Created, Store
from tracker.url_handlers.request import load_registry

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.domain.lifecycle import Change

TRIES = 20
"""How often a change is decided anew when the record moves between reading and writing."""
REASON_LIMIT = 256
ONCE_MARGIN = 300
"""Seconds that a request's name is remembered beyond the setting, for clients whose clock is ahead."""


class Mark(NamedTuple):
    """How many changes, and how many ends of operations, this process had heard of at a time."""

    changes: int
    ends: int


UNMARKED = Mark(-1, -1)
"""Before everything."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's name, and the tenant whose operations exist for it."""

    name: str
    tenant: str


class Operations:
    """Every method raises Unavailable while Redis is away, and NotFound or Gone for an id it cannot show."""

    def __init__(self, store: Store, events: EventHub, registry: TypeRegistry, settings: "Settings") -> None:
        self._store, self._events, self._registry, self.settings = store, events, registry, settings
        self._calls = Pager(store)
        self.pace = RetryAfterEstimator(store)
        events.overhear = self.pace.hear
        self.turn = store.turn

    async def ready(self) -> None:
        """Whether work can be accepted: Redis answers and the scripts are loaded."""
        await self._store.ready()

    async def create(
        self, caller: Caller, call_id: str, body: Json, *, once: str = "", strict: bool = False
    ) -> tuple[Record, bool]:
        """Accept an operation: it is stored, and queued unless it has to wait, when this returns.

        Returns the record and whether it is new; the same id, call and body again is the stored one. `once` is the
        client's name for this request: sent again, it is answered as it was, with the record as it now is. Raises
        Invalid naming every wrong member (when `strict`, also those that are ignored otherwise), Conflict when the id
        is taken, Reused when another body had the name, Gone when the named request's operation was deleted meanwhile.
        """
        [became] = await self.create_each(caller, [self.draft(caller, call_id, body, once=once, strict=strict)])
        if isinstance(became, Exception):
            raise became
        return became

    def draft(self, caller: Caller, call_id: str, body: Json, *, once: str = "", strict: bool = False) -> CreateArgs:
        """Judge an operation as `create` does, for `create_each`. Raises Invalid."""
        check_call_id(call_id)
        accept_unknown = self.settings.unknown_types == "accept"
        draft = read_create(call_id, body, self._registry, accept_unknown=accept_unknown, strict=strict)
        key = new_key()
        record = Record(
            key=key,
            tenant=caller.tenant,
            call_id=call_id,
            id=draft.id or as_uuid(key),
            type=draft.type.name,
            digest=draft.digest,
            policy=draft.type.policy(retention=self.settings.retention, tombstone=self.settings.tombstone),
            client_context=draft.client_context,
            members=draft.members,
            result_info=draft.result_info,
            not_before=draft.not_before,
        )
        return CreateArgs(record, draft.delay, self._once(caller, once, draft))

    async def create_each(self, caller: Caller, many: Sequence[CreateArgs]) -> list[Created | Exception]:
        """Accept drafts together; of each what `create` returns, or what it raises. Raises Unavailable for all."""
        became = await self._store.create_each(many)
        failpoints.reach(failpoints.AFTER_CREATE)
        for new, one in zip(many, became, strict=True):
            if not isinstance(one, Exception) and one[1] and one[0].key == new.record.key:
                log_transition(Transition.CREATE, one[0], caller=caller.name)
        return became

    async def create_many(self, caller: Caller, call_id: str, bodies: Iterable[Json]) -> list[Created | Exception]:
        """Accept an operation of each body, all by one call of the script, once it is this request's turn.

        Answers for each body what `create` returns or raises, in their order. An error does not hide what became of
        the other bodies: none is raised.
        """
        await self.turn()
        drafts: list[CreateArgs | Exception] = []
        for body in bodies:
            try:
                drafts.append(self.draft(caller, call_id, body))
            except Exception as error:  # noqa: BLE001 - it is the answer to this body alone
                drafts.append(error)
        accepted = [draft for draft in drafts if isinstance(draft, CreateArgs)]
        stored: Iterator[Created | Exception]
        try:
            stored = iter(await self.create_each(caller, accepted))
        except Exception as error:  # noqa: BLE001 - they may be stored all the same, so that nobody may try again
            stored = repeat(error)
        return [next(stored) if isinstance(draft, CreateArgs) else draft for draft in drafts]

    def _once(self, caller: Caller, name: str, draft: CreateRequest) -> IdempotencyKey:
        if not name:
            return NO_KEY
        told = f"{draft.digest}.{draft.id or ''}"
        return IdempotencyKey(
            once_digest(caller.tenant, name), told, math.ceil(self.settings.idempotency) + ONCE_MARGIN
        )

    async def get(self, caller: Caller, call_id: str, operation_id: str) -> Record:
        """One operation of one call."""
        record = await self._store.find(caller.tenant, operation_id)
        if record.call_id != call_id:
            raise NotFound(f"There is no operation '{operation_id}' in this call.")
        return record

    async def find(self, caller: Caller, operation_id: str) -> Record:
        """One operation by its id alone."""
        return await self._store.find(caller.tenant, operation_id)

    async def list(self, caller: Caller, call_id: str, query: ListQuery) -> Page:
        """A part of a call's operations. Raises Invalid when its order or count would need too much reading."""
        check_call_id(call_id)
        return await self._calls.page(caller.tenant, call_id, query)

    async def count(self, caller: Caller, call_id: str, where: Condition | None) -> int:
        """How many of a call's operations satisfy a condition. Raises Invalid like `list`."""
        check_call_id(call_id)
        return await self._calls.count(caller.tenant, call_id, where)

    async def patch(
        self,
        caller: Caller,
        call_id: str,
        operation_id: str,
        body: Json,
        *,
        conditions: Preconditions = ANY,
        strict: bool = False,
    ) -> Record:
        """Change what is the client's of an operation, in any stage; what is stored already changes nothing.

        Raises PreconditionFailed, and Invalid naming every member that cannot be changed; when `strict`, also those
        that are ignored otherwise.
        """

        def decide(record: Record) -> "Change | None":
            fields = read_patch(body, record, self._registry.get(record.type), strict=strict)
            return lifecycle.patch(record, fields) if fields else None

        return await self._change(caller, call_id, operation_id, decide, conditions)

    async def cancel(
        self,
        caller: Caller,
        call_id: str | None,
        operation_id: str,
        *,
        reason: str = "",
        conditions: Preconditions = ANY,
    ) -> Record:
        """Ask an operation to stop; asking again, or asking a finished one, changes nothing."""

        def decide(record: Record) -> "Change | None":
            if record.status.final or record.cancel_requested:
                return None
            return lifecycle.request_cancel(record, reason[:REASON_LIMIT], by=caller.name)

        return await self._change(caller, call_id, operation_id, decide, conditions)

    async def delete(self, caller: Caller, call_id: str, operation_id: str, *, conditions: Preconditions = ANY) -> None:
        """Hide an operation from everybody, after canceling it if it has not ended. Raises PreconditionFailed."""

        def decide(record: Record) -> "Change":
            return lifecycle.hide(record, by=caller.name)

        await self._change(caller, call_id, operation_id, decide, conditions)

    @property
    def mark(self) -> Mark:
        """Taken before a record is read, it lets `wait` and `wait_for_end` begin without reading it again."""
        return Mark(self._events.changes.heard.mark, self._events.ends.heard.mark)

    async def wait(self, caller: Caller, known: Record, *, seconds: float, mark: Mark = UNMARKED) -> Record:
        """Wait until an operation's record is another than `known`, or time is up; return it as it then is.

        What has ended is answered at once: it does not change any more. So is everything once `release` was called.
        """
        watch, until = self._events.changes, lambda now: now.etag != known.etag
        return await self._watch(watch, caller, known, seconds=seconds, mark=mark.changes, until=until)

    async def wait_for_end(self, caller: Caller, known: Record, *, seconds: float, mark: Mark = UNMARKED) -> Record:
        """Wait until an operation has ended, or time is up; return it as it then is.

        Once `release` was called, or while Redis is away, that is as it is known here.
        """
        watch, until = self._events.ends, lambda _: False
        record = await self._watch(watch, caller, known, seconds=seconds, mark=mark.ends, until=until)
        changed = self._events.changes.heard.since(mark.changes, known.key)
        if changed and not record.status.final and not self._events.stopped:
            with contextlib.suppress(Unavailable):
                record = await self.get(caller, known.call_id, known.id)
        return record

    async def _watch(
        self,
        watch: Waiters,
        caller: Caller,
        known: Record,
        *,
        seconds: float,
        mark: int,
        until: Callable[[Record], bool],
    ) -> Record:
        """Read an operation whenever something of its kind is heard, until it is as wanted or waiting is over."""
        loop = asyncio.get_running_loop()
        deadline, record = loop.time() + seconds, known
        while True:
            with watch.expect(known.key) as change:
                if watch.heard.since(mark, known.key):
                    mark = watch.heard.mark
                    record = await self.get(caller, known.call_id, known.id)
                left = deadline - loop.time()
                if until(record) or record.status.final or left <= 0 or self._events.stopped:
                    return record
                if (line := await change.within(left)) and (told := ended(record, line)):
                    return told

    async def follow(
        self, caller: Caller, *, call_id: str | None = None, operation_id: str | None = None, resume: str | None = None
    ) -> StreamItems:
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

    async def _change(
        self,
        caller: Caller,
        call_id: str | None,
        operation_id: str,
        decide: "Callable[[Record], Change | None]",
        conditions: Preconditions,
    ) -> Record:
        """Decide a change on the record as it is, and anew while it moves between reading and writing."""
        for _ in range(TRIES):
            record = await self._lookup(caller, call_id, operation_id)
            conditions.check(record)
            change = decide(record)
            if change is None:
                return record
            with contextlib.suppress(Refused):
                after = await self._store.apply(lifecycle.if_unchanged(change) if conditions else change)
                log_transition(change.transition, after, caller=caller.name)
                return after
        raise Unavailable("The operation changes too fast; try again.")


@asynccontextmanager
async def open_operations(settings: "Settings") -> AsyncIterator[Operations]:
    """The service over its own connections, with the sweeper and the event feed in the background.

    Starts while Redis is away; raises ConfigurationError for types that do not load.
    """
    registry = load_registry(settings)
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        events = EventHub(redis, store.keys.events)
        operations = Operations(store, events, registry, settings)
        async with beside(events.run(), operations.pace.run(), Sweeper(store).run(), server_check.report(redis)):
            yield operations
