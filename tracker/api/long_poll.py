"""Long polling: requests with `Prefer: wait=N`, whose response waits for a change (RFC 7240, 4.3)."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from aiohttp import web

from tracker.api.answers import BUDGETS
from tracker.api.connection import cancelled_on_disconnect, is_half_closed
from tracker.api.guard import CALLERS, OPERATIONS
from tracker.domain.record import Record
from tracker.events.feed import is_whole, without_large_members
from tracker.events.record_waiter import BEFORE_ALL, HubPosition
from tracker.service import Caller

FULL: Final = "Too many requests wait for changes."
FULL_RETRY_AFTER: Final = 10
"""The `Retry-After`, in seconds, when too many requests wait."""


def wait_for_change(
    request: web.Request, record: Record, seconds: int, *, since: HubPosition = BEFORE_ALL
) -> Coroutine[Any, Any, Record]:
    """Wait until the operation differs from `record`. Returns its latest record. Raises Unavailable if too many wait.

    The wait ends early when the client disconnects or the server stops. It does not begin when the client has closed
    its half of the connection, so that the client gets the present state. When the client's token is removed, it raises
    Unauthorized. `since` is the position of the event hub from before `record` was read. With this position, the wait
    starts without reading the record again, unless an event has arrived in between.

    The caller should keep no other reference to `record`, which may be large.
    """
    return _wait(request, record, partial(request.app[OPERATIONS].wait, seconds=seconds, since=since))


def wait_for_end(
    request: web.Request, record: Record, seconds: int, *, since: HubPosition
) -> Coroutine[Any, Any, Record]:
    """Wait until the operation has ended. Returns its latest record. Raises Unavailable if too many wait.

    The wait ends early for the same reasons as in `wait_for_change`, and `since` has the same meaning.
    """
    return _wait(request, record, partial(request.app[OPERATIONS].wait_for_end, seconds=seconds, since=since))


async def release_all(app: web.Application) -> None:
    """End all waits and all streams, because the server stops. Each wait returns the record that it has."""
    if OPERATIONS in app:
        app[OPERATIONS].release()


async def _wait(request: web.Request, record: Record, wait: Callable[[Record], Awaitable[Record]]) -> Record:
    """Wait by `wait`. The functions above are no coroutines, which would keep `record` while this one waits."""
    if not is_half_closed(request):
        record = without_large_members(record)
        with _held(request, record):
            record = await wait(record)
            await request.app[BUDGETS].turns.turn(record.tenant)
    return await _whole(request, record)


@contextmanager
def _held(request: web.Request, record: Record) -> Iterator[None]:
    waits, tokens = request.app[BUDGETS].waits, request.app[CALLERS].held
    with (
        waits.taken(record.tenant, FULL, retry_after=FULL_RETRY_AFTER),
        cancelled_on_disconnect(request),
        tokens.hold(request, record.tenant),
    ):
        yield


async def _whole(request: web.Request, record: Record) -> Record:
    """The record with its members, which it may have been without while the request waited."""
    if is_whole(record):
        return record
    return await request.app[OPERATIONS].get(Caller("", record.tenant), record.call_id, record.id)
