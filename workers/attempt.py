"""One running attempt, as the manager sees it; its handler runs in a host."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker.domain.operation import Json
    from tracker.domain.record import Record
    from workers.host import Host


PATIENCE = 0.5
"""Seconds that an operation waits behind another in its host before it goes back to the queue, uncharged."""


class StopReason(StrEnum):
    """Why a handler was asked to stop."""

    CANCEL = "cancel"
    """Somebody asked for a cancel."""
    DEADLINE = "deadline"
    """The attempt's time is over."""
    DRAIN = "drain"
    """The worker is stopping."""
    FENCED = "fenced"
    """The attempt is not the current one any more."""


@dataclass(slots=True, eq=False)
class Attempt:
    """Times are of the loop's clock, in seconds."""

    ref: int
    record: "Record"
    host: "Host"
    began: float
    stop: StopReason | None = None
    ends_at: float = field(init=False)
    """When the next thing is due: the deadline, and once it was asked to stop, the end of the grace."""
    progress: "Json | None" = None
    """The handler's latest report."""
    reported: bool = True
    """Whether that report is stored."""
    waiting: bool = False
    """Whether it is behind others in its host: it has not begun, and may be taken back."""

    def __post_init__(self) -> None:
        self.ends_at = self.began + (PATIENCE if self.waiting else self.record.policy.run_within)

    def begin(self, now: float) -> None:
        """Those before it in its host have ended."""
        self.waiting = False
        self.began = now
        policy = self.record.policy
        self.ends_at = now + (policy.run_within if self.stop is None else policy.grace)

    def ask(self, why: StopReason, now: float) -> None:
        """Ask the handler to stop; the first reason counts. It has the grace to do so."""
        if self.stop is None:
            self.stop = why
            self.ends_at = now + self.record.policy.grace
            self.host.stop(self.ref)

    def order(self) -> "Json":
        """What the host is told."""
        record = self.record
        return {
            "ref": self.ref,
            "type": record.type,
            "id": record.id,
            "call_id": record.call_id,
            "attempt": record.attempt,
            "key": record.key,
            "members": dict(record.members),
            "client_context": record.client_context,
        }
