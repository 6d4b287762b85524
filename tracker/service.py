"""The use cases: what a caller can do with the operations of the caller's tenant."""

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from tracker.bodies.create import CreateRequest, check_call_id, read_create
from tracker.bodies.patch import read_patch
from tracker.bodies.preconditions import ANY, Preconditions
from tracker.domain import lifecycle
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import TypeRegistry
from tracker.errors import NotFound, Refused, Unavailable
from tracker.events.hub import EventHub
from tracker.events.record_waiter import BEFORE_ALL, HubPosition, RecordWaiter
from tracker.events.stream import Scope, Stream, StreamItems
from tracker.listing.conditions import Condition
from tracker.listing.pager import Pager
from tracker.listing.query import ListQuery, Page, Take
from tracker.log import log_transition
from tracker.maintenance.sweeper import Sweeper
from tracker.retry_after import RetryAfterEstimator
from tracker.runtime import failpoints
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.store import server_check
from tracker.store.codec import as_uuid, new_key
from tracker.store.connection import open_redis
from tracker.store.create_args import CreateArgs
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.keys import once_digest
from tracker.store.memory import check_ready
from tracker.store.store import Created, Store
from tracker.store.tenant_registry import TenantRegistry
from tracker.url_handlers.request import load_registry

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.domain.change import Change

TRIES = 20
"""How many times a change is decided at most, when the record changes between reading and writing."""
REASON_LIMIT = 256
"""How many characters of a cancel reason are kept at most."""
IDEMPOTENCY_MARGIN = 300
"""Seconds that an idempotency key is kept beyond the setting, for clients whose clock is ahead."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name of the token, and the tenant whose operations the caller can see."""

    name: str
    tenant: str


class Operations:
    """The operations of all tenants, as callers see them.

    Every method raises Unavailable while Redis is away, and NotFound or Gone for an operation that the caller cannot
    see.
    """

    def __init__(
        self, store: Store, events: EventHub, registry: TypeRegistry, settings: "Settings", budgets: Budgets
    ) -> None:
        self._store, self._events, self._registry, self.settings = store, events, registry, settings
        self._pager = Pager(store, budgets.tenants)
        self._waiter = RecordWaiter(events, lambda known: self._find(known.tenant, known.call_id, known.id))
        self.estimator, self.tenants = RetryAfterEstimator(store, settings.weights_of_tenants), TenantRegistry(store)
        events.on_ends = self.estimator.learn
        self.turn = store.turn
        self.ready = partial(check_ready, store)

    async def create(
        self, caller: Caller, call_id: str, body: Json, *, idempotency_key: str = "", strict: bool = False
    ) -> tuple[Record, bool]:
        """Create an operation. When this returns it is stored, and queued unless it has to wait.

        Returns the record, and whether it is new. It is not new when an earlier create had the same id, call and body,
        or the same idempotency key and body. Then the record of the earlier create is returned, as it is now.

        Raises Invalid that names every wrong member (when `strict`, also ignored ones), Conflict when the id is taken,
        Reused when the key was used with another body, Gone when the operation of the first request was deleted.
        """
        create = self._check(caller, call_id, body, idempotency_key=idempotency_key, strict=strict)
        [outcome] = await self._store_each(caller, [create])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def create_many(self, caller: Caller, call_id: str, bodies: Iterable[Json]) -> list[Created | Exception]:
        """Create an operation of each body, all by one call of the script.

        Returns for each body, in their order, what `create` returns or raises. Raises nothing, because an error of one
        body must not hide the outcomes of the others.
        """
        await self.turn()
        checked: list[CreateArgs | Exception] = []
        for body in bodies:
            try:
                checked.append(self._check(caller, call_id, body))
            except Exception as error:  # noqa: BLE001 - it is the outcome of this body alone
                checked.append(error)
        valid = [create for create in checked if isinstance(create, CreateArgs)]
        outcomes: Iterator[Created | Exception]
        try:
            outcomes = iter(await self._store_each(caller, valid))
        except Exception as error:  # noqa: BLE001 - some may be stored, so no caller may send them again by itself
            outcomes = repeat(error)
        return [next(outcomes) if isinstance(create, CreateArgs) else create for create in checked]

    def _check(
        self, caller: Caller, call_id: str, body: Json, *, idempotency_key: str = "", strict: bool = False
    ) -> CreateArgs:
        """Check a create, and make the record that is to be stored. Raises Invalid."""
        check_call_id(call_id)
        accept_unknown = self.settings.unknown_types == "accept"
        request = read_create(call_id, body, self._registry, accept_unknown=accept_unknown, strict=strict)
        key = new_key()
        record = Record(
            key=key,
            tenant=caller.tenant,
            call_id=call_id,
            id=request.id or as_uuid(key),
            type=request.type.name,
            digest=request.digest,
            policy=request.type.policy(retention=self.settings.retention, tombstone=self.settings.tombstone),
            client_context=request.client_context,
            members=request.members,
            result_info=request.result_info,
            not_before=request.not_before,
        )
        return CreateArgs(record, request.delay, self._stored_key(caller, idempotency_key, request))

    async def _store_each(self, caller: Caller, many: Sequence[CreateArgs]) -> list[Created | Exception]:
        """Store checked creates together. Raises Unavailable for all of them."""
        outcomes = await self._store.create_each(many)
        failpoints.reach(failpoints.AFTER_CREATE)
        for create, outcome in zip(many, outcomes, strict=True):
            if not isinstance(outcome, Exception) and outcome[1] and outcome[0].key == create.record.key:
                log_transition(Transition.CREATE, outcome[0], caller=caller.name)
        return outcomes

    def _stored_key(self, caller: Caller, name: str, request: CreateRequest) -> IdempotencyKey:
        if not name:
            return NO_KEY
        asked_for = f"{request.digest}.{request.id or ''}"
        seconds = math.ceil(self.settings.idempotency) + IDEMPOTENCY_MARGIN
        return IdempotencyKey(once_digest(caller.tenant, name), asked_for, seconds)

    async def get(self, caller: Caller, call_id: str, operation_id: str) -> Record:
        """One operation of one call."""
        return await self._find(caller.tenant, call_id, operation_id)

    async def find(self, caller: Caller, operation_id: str) -> Record:
        """One operation by its id alone."""
        return await self._store.find(caller.tenant, operation_id)

    async def list(self, caller: Caller, call_id: str, query: ListQuery, take: Take) -> Page:
        """Read a page of a call's operations, and give each record to `take`. See `Pager.page`."""
        check_call_id(call_id)
        return await self._pager.page(caller.tenant, call_id, query, take)

    async def count(self, caller: Caller, call_id: str, where: Condition | None) -> int:
        """How many of a call's operations satisfy a condition. Raises Invalid like `list`."""
        check_call_id(call_id)
        return await self._pager.count(caller.tenant, call_id, where)

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
        """Change the client's own members of an operation, in any stage. Values that are stored already change nothing.

        Raises PreconditionFailed, and Invalid that names every member that cannot be changed; when `strict`, also
        members that are otherwise ignored.
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
        """Ask an operation to stop. A second request, and one for an operation that has ended, change nothing."""

        def decide(record: Record) -> "Change | None":
            if record.status.final or record.cancel_requested:
                return None
            return lifecycle.request_cancel(record, reason[:REASON_LIMIT], by=caller.name)

        return await self._change(caller, call_id, operation_id, decide, conditions)

    async def delete(self, caller: Caller, call_id: str, operation_id: str, *, conditions: Preconditions = ANY) -> None:
        """Hide an operation from all clients. An unfinished operation is canceled, too. Raises PreconditionFailed."""

        def decide(record: Record) -> "Change":
            return lifecycle.hide(record, by=caller.name)

        await self._change(caller, call_id, operation_id, decide, conditions)

    @property
    def position(self) -> HubPosition:
        """A position in this process's events. Take it before reading a record that `wait` is called with later."""
        return self._waiter.position

    async def wait(self, known: Record, *, seconds: float, since: HubPosition = BEFORE_ALL) -> Record:
        """Wait until an operation's record differs from `known`: see `RecordWaiter.until_changed`."""
        return await self._waiter.until_changed(known, seconds=seconds, since=since)

    async def wait_for_end(self, known: Record, *, seconds: float, since: HubPosition = BEFORE_ALL) -> Record:
        """Wait until an operation has ended: see `RecordWaiter.until_ended`."""
        return await self._waiter.until_ended(known, seconds=seconds, since=since)

    async def follow(
        self, caller: Caller, *, call_id: str | None = None, operation_id: str | None = None, resume: str | None = None
    ) -> StreamItems:
        """The stream of events of a tenant, of one of its calls, or of one operation: see `Stream.items`."""
        record = None
        if call_id is not None:
            check_call_id(call_id)
            record = None if operation_id is None else await self.get(caller, call_id, operation_id)
        return Stream(self._store, self._events, Scope(caller.tenant, call_id, record)).items(resume)

    def release(self) -> None:
        """End all waits and streams, because the process ends."""
        self._events.stop()

    async def _find(self, tenant: str, call_id: str, operation_id: str) -> Record:
        record = await self._store.find(tenant, operation_id)
        if record.call_id != call_id:
            raise NotFound(f"There is no operation '{operation_id}' in this call.")
        return record

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
        """Read the record, decide a change and apply it. Decide again when the record has changed meanwhile."""
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
async def open_operations(settings: "Settings", budgets: Budgets | None = None) -> AsyncIterator[Operations]:
    """The service with its own connections, and the sweeper and the event hub in the background.

    `budgets` are those of the process. It starts even while Redis is away. Raises ConfigurationError for types that do
    not load.
    """
    registry = load_registry(settings)
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        budgets = budgets or Budgets(settings)
        events = EventHub(redis, store.keys.events, budgets)
        operations = Operations(store, events, registry, settings, budgets)
        async with beside(events.run(), operations.estimator.run(), Sweeper(store).run(), server_check.report(redis)):
            yield operations
