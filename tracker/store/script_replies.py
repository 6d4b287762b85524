"""What the store's scripts answer, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tracker.domain.record import Record


class ChangeReply(StrEnum):
    """What became of one change in a batch."""

    OK = "OK"
    """Written, now or by an earlier call whose answer was lost."""
    CONFLICT = "CONFLICT"
    """The record is no longer where the change saw it: an older attempt, say."""
    CANCEL = "CANCEL"
    """A cancel was asked for meanwhile: the operation must end, not start again."""
    MISSING = "MISSING"
    """The record is gone."""


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """What a claim brought. `refused` are RQ job ids with what is wrong: STALE, MISSING or FOREIGN."""

    started: Sequence[Record]
    parked: Sequence[Record] = ()
    refused: Sequence[tuple[str, str]] = ()
    suspended: bool = False
    more: bool = False
    """Whether it ended before the queues did."""
    left: bool = False
    """Whether tickets are left that there was no room for."""
    opens: float | None = None
    """In how many seconds the first closed gate opens."""
    waiting: int = 0
    """How many tickets the queues still hold."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many operations a worker can take, by its handlers' kind; `kinds` says which type is of which."""

    coroutines: int
    functions: int
    kinds: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overdue:
    """What the sweeper has to act on, by internal key; `litter` holds RQ job ids."""

    lost: Sequence[str]
    due: Sequence[str]
    vanished: Sequence[str]
    litter: Sequence[str]
    missed: Sequence[str]
