"""One running attempt, as the manager sees it. Its handler runs in a host."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from workers.frames import ProgressReport, RunAttempt

if TYPE_CHECKING:
    from tracker.domain.record import Record
    from workers.host import Host


QUEUED_IN_HOST_TIMEOUT = 0.5
"""The longest time that an attempt waits in its host behind others, in seconds. Then it is handed back, uncharged."""


class StopReason(StrEnum):
    """Why a handler was asked to stop."""

    CANCEL = "cancel"
    """A client asked for a cancel."""
    DEADLINE = "deadline"
    """The attempt has run for as long as its policy allows."""
    DRAIN = "drain"
    """The worker stops, could not start a process, or the attempt has waited in its host for too long."""
    BLOCKED = "blocked"
    """The attempt, or another attempt in its host, blocked the event loop."""
    LOST = "lost"
    """The fork server died, and all hosts with it."""
    FENCED = "fenced"
    """Redis refused a beat or a progress report: the operation has another attempt now."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed operation and the host that runs its handler. Times are seconds of the event loop's clock."""

    run_id: int
    """Names the attempt in the messages between the manager and its hosts."""
    record: "Record"
    host: "Host | None"
    """None while the process is started that runs this attempt only."""
    started: float
    """When the handler began, or before that, when the attempt was sent to its host."""
    lease_until: float
    """The `time.monotonic()` until which the lease certainly holds. The handler does not begin after that."""
    stop_reason: StopReason | None = None
    """The first reason why the attempt has to end, if there is one."""
    stop_message: str = ""
    """The reason for the stop as the history of the operation tells it, if the outcome does not tell it."""
    due: float = field(init=False)
    """When the executor has to act next: at the deadline, or after a request to stop at the end of the grace."""
    unstored_progress: ProgressReport | None = None
    """The handler's latest report, until it is stored."""
    queued: bool = False
    """Whether the attempt waits in its host behind others. The host can still return it without running it."""

    def __post_init__(self) -> None:
        if self.host is None:
            self.due = math.inf
        elif self.queued:
            self.due = self.started + QUEUED_IN_HOST_TIMEOUT
        else:
            self.begin(self.started)

    def begin(self, now: float) -> None:
        """Note that the handler begins: the attempts before it in its host have ended."""
        self.queued = False
        self.started = now
        if self.host is not None:
            self.host.begun += 1
        policy = self.record.policy
        self.due = now + (policy.run_within if self.stop_reason is None else policy.grace)

    def request_stop(self, reason: StopReason, now: float) -> None:
        """Ask the handler to stop within its grace, unless it was asked before."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.due = now + self.record.policy.grace
            if self.host is not None:
                self.host.stop(self.run_id)

    def message(self) -> RunAttempt:
        """The message that makes the host run the handler."""
        record = self.record
        return RunAttempt(
            run_id=self.run_id,
            type=record.type,
            operation_id=record.id,
            call_id=record.call_id,
            attempt=record.attempt,
            key=record.key,
            members=dict(record.members),
            client_context=record.client_context,
            begin_before=self.lease_until,
        )
