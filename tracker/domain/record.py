"""The stored record of an operation.

Other data in Redis about the operation (its queue, its indexes, RQ's jobs) follows from the record. Where they
disagree, the record is right.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tracker.domain.operation import Micros, OperationStatus, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""An empty object that all records without members share."""


class Apart(StrEnum):
    """How far from other operations the attempts of an operation run."""

    NO = ""
    """Together with others, as the kind of its handler allows."""
    PROCESS = "process"
    """In a process of its own."""
    WORKER = "worker"
    """In a process of its own, on a worker that runs nothing else meanwhile."""


class Record(NamedTuple):
    """An operation as it is stored. Only transitions change it: `lifecycle` decides them, `store` applies them.

    * `key`: the internal name, 32 hexadecimal digits. `id` is the public one. `digest` is a hash of the create.
      It shows whether a second create with the same id repeats the first or asks for something else.
    * `results`: the members that the handler has set. `members`: the members that the client has set, and over them
      those in `results`. A PATCH changes the client's members, and an outcome the handler's.
    * `attempt`: the number of the latest attempt, raised by every claim. It is a fencing token: a write for an earlier
      attempt is refused. `charged`: how many attempts failed, timed out, or ended their process and are proven to be
      the cause.
    * `suspected`: how many attempts died without a charge, because the cause is not known. `lost_workers`: how many of
      them died with their worker. `apart`: how far from others the next attempts run for that reason. `alone`: the
      number of the last attempt that had its worker for itself; 0 if there was none.
    * `ticket`: the number of the latest ticket. A ticket is the job in an RQ queue by which workers find the operation.
      `vanished`: how many tickets since the last claim left their queue and were not claimed.
    * `worker`: the worker that claimed the latest attempt. `began`: when it did. `started`: when the first attempt was
      claimed. `rq`: whether that worker itself removes RQ's keys of the ticket.
    * `blocker`: what a parked operation waits for: `serial`, `cap`, `rate`, `type` or `apart`.
    * `revision`: the number in the ETag. Every transition raises it, also a PATCH and progress. A heartbeat does not.
    * `hidden`: whether a client has deleted the operation.

    Timestamps are in microseconds, from the clock of the Redis server. 0 means "not yet" or "not set".
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
    suspected: int = 0
    lost_workers: int = 0
    apart: Apart = Apart.NO
    alone: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether the latest attempt has its worker for itself."""
        return self.alone != 0 and self.alone == self.attempt

    @property
    def visible(self) -> bool:
        """Whether clients can see the operation: it is neither deleted nor past its retention."""
        return not self.hidden and self.stage is not Stage.TOMBSTONE

    @property
    def etag(self) -> str:
        """The record's revision as a weak validator (RFC 9110, 8.8.3)."""
        return f'W/"{self.revision}"'
