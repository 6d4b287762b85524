"""Replies of the store's Lua scripts, as Python values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tracker.domain.record import Record


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
    opens: float | None = None
    """Seconds until the first limiter may admit an operation; None if no limiter holds an operation back."""
    waiting: int = 0
    """How many tickets are left on the queues."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many operations a worker takes, by kind of handler. `kinds` is the kind of each type."""

    coroutines: int
    functions: int
    kinds: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overdue:
    """What the sweeper has to act on: internal keys, and in `litter` RQ job ids."""

    lost: Sequence[str]
    """Running operations whose leases ran out."""
    due: Sequence[str]
    """Delayed operations whose delays are over."""
    vanished: Sequence[str]
    """Queued operations whose tickets are gone, and which no worker has claimed."""
    litter: Sequence[str]
    missed: Sequence[str]
    """Operations that have not started in time."""
