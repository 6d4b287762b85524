"""The stored operation: the record that is the only truth about it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tracker.domain.operation import Micros, OperationStatus, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""No members, which many records share."""


class Record(NamedTuple):
    """The stored operation: the only truth about it. Changed only by `lifecycle`, through `store`.

    `attempt` is raised by every claim and is the fence; `charged` counts failed, lost and timed-out attempts;
    `ticket` is the number of the ticket that is or was out last; `vanished` counts tickets that came to nothing
    since the last claim. `blocker` says what a parked operation waits for: `serial`, `cap`, `rate` or `type`.
    `worker` is who claimed the latest attempt, `began` when; `rq` is the worker again when RQ's part of the ticket
    is its own to remove. `members` are the client's, and over them what the handler set, which `results` holds by
    itself: a PATCH writes the one and an outcome the other. Stamps are microseconds; 0 means "not yet".
    """

    key: str
    tenant: str
    call_id: str
    id: str
    type: str
    digest: str
    policy: Policy
    client_context: str | None = None
    members: Mapping[str, Any] = _NOTHING
    results: Mapping[str, Any] = _NOTHING
    result_info: ResultInfo | None = None
    status: OperationStatus = OperationStatus.NOT_STARTED
    stage: Stage = Stage.QUEUED
    attempt: int = 0
    charged: int = 0
    ticket: int = 0
    vanished: int = 0
    revision: int = 0
    percent: int | None = None
    detail: str = ""
    worker: str = ""
    rq: bool = False
    blocker: str = ""
    canceled: bool = False
    hidden: bool = False
    cancel_reason: str = ""
    cancel_by: str = ""
    created: Micros = 0
    not_before: Micros = 0
    start_by: Micros = 0
    started: Micros = 0
    began: Micros = 0
    completed: Micros = 0
    changed: Micros = 0
    expires: Micros = 0
    cancel_requested: Micros = 0

    @property
    def visible(self) -> bool:
        """Whether clients can see it: neither deleted nor past its retention."""
        return not self.hidden and self.stage is not Stage.TOMBSTONE

    @property
    def etag(self) -> str:
        """The record's revision as a weak validator (RFC 9110, 8.8.3)."""
        return f'W/"{self.revision}"'
