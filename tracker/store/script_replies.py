"""Replies of the store's Lua scripts, as Python values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tracker.domain.record import Record
from tracker.store.claim_shares import ClaimShares


class ChangeReply(StrEnum):
    """The reply to one change."""

    OK = "OK"
    """The change is written, now or by an earlier call whose reply was lost."""
    CONFLICT = "CONFLICT"
    """The operation is not as the change saw it: for example, another attempt has begun."""
    CANCEL = "CANCEL"
    """A cancel was requested meanwhile: the operation must end, and not start again."""
    MISSING = "MISSING"
    """The operation has no record any more."""


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """The reply to a claim. `refused` holds RQ job ids, each with the reason: STALE, MISSING or FOREIGN."""

    started: Sequence[Record]
    parked: Sequence[Record] = ()
    refused: Sequence[tuple[str, str]] = ()
    suspended: bool = False
    """Whether nothing was claimed because of `rq suspend`."""
    more: bool = False
    """Whether the claim ended before it came to the end of the queues."""
    left: bool = False
    """Whether tickets are left that there was no room for."""
    alone: bool = False
    """Whether nothing else was claimed, because an operation is to have the worker for itself."""
    again: bool = False
    """Whether the claim was sent before, and has brought what it took then."""
    opens: float | None = None
    """Seconds until the first limiter may admit an operation; None if no limiter holds an operation back."""
    waiting: int = 0
    """How many entries are left on the queues, among them stale ones."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many operations a worker takes.

    `coroutines` and `functions` are for operations that may run together with others, by the kind of handler. `apart`
    is for operations that need a process of their own. `kinds` says which room each type needs: `coroutines`,
    `functions` or `apart`. `idle` says whether the worker runs nothing. `shares` says what it takes of each tenant.
    """

    coroutines: int
    functions: int
    kinds: Mapping[str, str]
    apart: int = 0
    idle: bool = False
    shares: ClaimShares = field(default_factory=ClaimShares)

    def __bool__(self) -> bool:
        """Whether there is room for any operation."""
        return bool(self.coroutines or self.functions or self.apart)


@dataclass(frozen=True, slots=True)
class Overdue:
    """The work of the sweeper: internal keys, and in `litter` RQ job ids."""

    lost: Sequence[str]
    """Running operations whose leases ran out."""
    due: Sequence[str]
    """Delayed operations whose delays are over."""
    vanished: Sequence[str]
    """Queued operations whose tickets are gone, and which no worker has claimed."""
    litter: Sequence[str]
    missed: Sequence[str]
    """Operations that have not started in time."""
    converted: int = 0
    """How many tickets of earlier versions were converted, in the lane that had most of them."""
    server_time: str = "0"
    """The server's time in microseconds."""
