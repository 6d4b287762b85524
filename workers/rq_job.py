"""The classes of jobs and queues for RQ's own workers and tools: they run tickets of operations and nothing else.

RQ's own class runs each function that a job names, as the job itself or as its callback, sends the job's webhooks, and
with RQ's default serializer it unpickles what the job holds. So a program that can write to Redis runs code in each
worker of that class. `OperationJob` reads a job's hash itself, and hands RQ only what it has checked.
"""

import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import str_to_date

from tracker import config, log
from tracker.errors import ConfigurationError
from tracker.store.keys import QUEUES
from tracker.store.rq_tickets import CALL, FAILURE_TTL, FUNCTION, NO_TIMEOUT, RESULT_TTL, parse_job_id
from tracker.store.script_constants import FOREIGN_JOB_EXPIRES

if TYPE_CHECKING:
    from redis import Redis

LONGEST_CALL = 256
"""How many bytes of a job's call are unpacked at most. The call of a ticket has fewer."""
_FORBIDDEN = {
    "success_callback_name": "a callback",
    "failure_callback_name": "a callback",
    "stopped_callback_name": "a callback",
    "webhooks": "a webhook",
    "dependency_id": "a dependency",
    "dependency_ids": "a dependency",
    "retries_left": "a retry",
    "retry_intervals": "a retry",
    "repeats_left": "a repeat",
    "repeat_intervals": "a repeat",
    "rate_limit_key": "a rate limit",
    "group_id": "a group",
}
"""Fields by which a job makes RQ do more than run the job's function. A ticket has none of them, or has them empty."""
_DATES = ("created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat")
_STATUSES = frozenset(status.value.encode() for status in JobStatus)
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9_.:@/-]{1,200}")
_REFUSED_CALL = "refused"
"""The name that stands for the function of a refused job in RQ's log."""

_log = structlog.get_logger()


class JobRefused(Exception):
    """The error of a job that is no ticket of an operation."""


class OperationJob(Job):
    """A job of RQ that runs `workers.job.run_operation`: `rq worker --job-class workers.OperationJob`.

    Every other job fails with JobRefused, so RQ moves it to the queue's failed registry. The job's hash keeps the call
    that it named. The serializer is JSON, also if RQ was started with another one.
    """

    refused = ""
    """Why the job does not run; empty for a ticket."""

    def __init__(self, id: str | None = None, connection: "Redis | None" = None, serializer: Any = None) -> None:  # noqa: A002, ARG002 - RQ's signature
        super().__init__(id, connection=connection, serializer=JSONSerializer)

    @classmethod
    def fetch(cls, id: str, connection: "Redis | None" = None, serializer: Any = None) -> "Job":  # noqa: A002 - RQ's signature
        """Read a job. Raises NoSuchJobError for an id that RQ refuses, too: RQ's worker would end by its ValueError."""
        try:
            return super().fetch(id, connection=connection, serializer=serializer)
        except ValueError as error:
            _log.error("job_refused", job_id=ascii(id)[:200], reason=str(error))
            raise NoSuchJobError(str(error)) from None

    @property
    def dependents_key(self) -> str:
        """The key of a set that nobody fills: nothing depends on a ticket, so a ticket's end starts no other job."""
        return f"{self.key}:no-dependents"

    def restore(self, raw_data: Mapping[bytes | str, Any]) -> None:
        """Take over the job's hash, as far as it is that of a ticket."""
        fields = {_text(name): value for name, value in raw_data.items()}
        self.refused = _fault(self.id, fields)
        super().restore(_checked(fields, ticket=not self.refused))
        if self.refused:
            self._data, self._func_name = b"", _REFUSED_CALL
            self._instance, self._args, self._kwargs = None, (), {}

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - RQ's signature
        """The fields that RQ writes. Those of a refused job leave its call in Redis as it is, for people to read."""
        fields: dict[str, Any] = super().to_dict(include_meta=include_meta, include_result=include_result)
        if self.refused:
            del fields["data"]
        return fields

    def _execute(self) -> None:
        """Run the ticket. Raises JobRefused for every other job, which RQ then logs and moves to the registry."""
        from workers.job import run_operation  # noqa: PLC0415 - RQ's parent process does not need what it imports

        if self.refused:
            with suppress(ConfigurationError):
                log.configure(config.load())
            _log.error("job_refused", job_id=self.id, queue=self.origin, reason=self.refused)
            raise JobRefused(f"this worker runs operations, nothing else: {self.refused}")
        run_operation()


class OperationQueue(Queue):
    """A queue of RQ whose jobs are `OperationJob`s: `rq info --queue-class workers.OperationQueue`.

    `rq info` cleans the registries that it counts. It takes no job class, so with RQ's own queue class it unpickles the
    jobs of a registry and runs the callbacks of those that seem abandoned.
    """

    job_class = OperationJob

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options)
        self.serializer = JSONSerializer


def _fault(job_id: str, fields: Mapping[str, Any]) -> str:
    """The reason why the job is no ticket; empty if it is one."""
    call = _call(fields.get("data", b""))
    if call != CALL:
        return f"the job calls {ascii(call.decode(errors='replace'))[:120]}, not {FUNCTION}"
    if parse_job_id(job_id) is None:
        return "the job's id is not that of a ticket"
    for name, what in _FORBIDDEN.items():
        if fields.get(name):
            return f"the job has {what} ({name})"
    return ""


def _call(data: bytes) -> bytes:
    """The call in a job's data, which RQ packs: its first bytes, because a small pack may hold a gigabyte."""
    try:
        return zlib.decompressobj().decompress(data, LONGEST_CALL)
    except zlib.error:
        return data[:LONGEST_CALL]


def _checked(fields: Mapping[str, Any], *, ticket: bool) -> dict[str, Any]:
    """The fields that RQ may read. Every value is one of ours, or has the form that RQ expects."""
    origin = fields.get("origin", b"")
    checked: dict[str, Any] = {
        "origin": origin if _PLAIN_NAME.fullmatch(origin) else QUEUES["default"].encode(),
        "description": f"{FUNCTION}()" if ticket else "a job that is no operation",
        "timeout": str(NO_TIMEOUT).encode(),
        "result_ttl": str(RESULT_TTL).encode(),
        "failure_ttl": str(FAILURE_TTL if ticket else FOREIGN_JOB_EXPIRES).encode(),
    }
    if "data" in fields:
        checked["data"] = CALL
    checked |= {name: fields[name] for name in _DATES if _is_date(fields.get(name, b""))}
    if fields.get("status") in _STATUSES:
        checked["status"] = fields["status"]
    if _PLAIN_NAME.fullmatch(fields.get("worker_name", b"")):
        checked["worker_name"] = fields["worker_name"]
    return checked


def _is_date(value: bytes) -> bool:
    with suppress(ValueError):
        return bool(str_to_date(value))
    return False


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")
