"""What an operation is: its public status, its stages, its result, and the record that is the only truth."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tracker import jsons
from tracker.errors import ConfigurationError

Micros = int
"""Microseconds: since 1970-01-01 UTC by the Redis server's clock for stamps, a length for durations."""

SECOND: Micros = 1_000_000
CLIENT_CONTEXT_LIMIT = 256
"""Characters of `clientContext` (Graph: "Can have a maximum of 256 characters")."""

MESSAGE_LIMIT = 4096
"""Characters of a `resultInfo` message."""

TYPE_NAME = r"#?[A-Za-z_][A-Za-z0-9_.]{0,126}"
"""A type's name: ASCII, because scripts compare names without case, and know ASCII only."""

READ_ONLY = frozenset(
    {
        *("status", "createdDateTime", "startedDateTime", "completedDateTime", "lastActionDateTime"),
        *("expirationDateTime", "percentComplete", "statusDetail", "attempt", "cancelRequestedDateTime"),
        "notBeforeDateTime",
    }
)
"""Members that only the service writes: ignored in a body, not refused (OData 4.01, 11.4.2)."""

WAITS = frozenset({"delay", "notBefore"})
"""Members of a create that say when it may start, unless the type declares a member of that name."""


def _as_whole(value: Any) -> Any:
    """A float without a fraction is an integer in JSON (JSON Schema, 6.1.1): 1.0 as much as 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Int32 = Annotated[int, BeforeValidator(_as_whole), Field(ge=-(2**31), lt=2**31)]
Json = dict[str, Any]


class OperationStatus(StrEnum):
    """Graph's `operationStatus`. It never goes backwards, and no other word ever appears."""

    NOT_STARTED = "NotStarted"
    """No attempt has begun; a worker's first claim moves it on."""
    RUNNING = "Running"
    """An attempt has begun; it stays so between attempts. A worker's outcome moves it on."""
    COMPLETED = "Completed"
    """Done; final."""
    FAILED = "Failed"
    """Failed or canceled; final."""

    final: bool
    """Whether nothing moves it any more."""

    def __init__(self, word: str) -> None:
        self.final = word in {"Completed", "Failed"}


class Stage(StrEnum):
    """Where the lifecycle has the operation. Each member says who moves it on."""

    DELAYED = "delayed"
    """Waits until it is due (not before, or backoff); the sweeper queues it, or a cancel ends it."""
    QUEUED = "queued"
    """A ticket is out; a worker's claim starts it, the sweeper notices when the ticket vanished."""
    PARKED = "parked"
    """Waits for others (its call's line, its type's cap or rate, a worker with its type); their release queues it."""
    RUNNING = "running"
    """An attempt holds the lease; its worker ends it, or the sweeper when the lease runs out."""
    COMPLETED = "completed"
    """Final; the sweeper makes it a tombstone when its retention ends."""
    FAILED = "failed"
    """Final; as completed."""
    TOMBSTONE = "tombstone"
    """Only the id and the final status are left; the sweeper forgets it when its time is over."""


class ResultInfo(BaseModel):
    """How an operation has ended: Graph's `resultInfo`. A handler returns one to complete its operation."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    code: Int32
    """A number as in HTTP: 2xx is success, 4xx is the client's fault, 5xx is the service's fault."""
    subcode: Int32 = 0
    """A number that the operation's type gives a meaning to; 0 has none."""
    message: str = Field("", max_length=MESSAGE_LIMIT)
    """A text for people, of 4096 characters at most."""


DONE = ResultInfo(code=200, subcode=0, message="Action completed successfully.")
CANCELED = ResultInfo(code=499, subcode=0, message="The operation was canceled.")
REJECTED_CODE = 400
TIMED_OUT = ResultInfo(code=408, subcode=1, message="The attempt did not end within its time limit.")
RAISED = ResultInfo(code=500, subcode=1, message="The handler failed.")
LOST = ResultInfo(code=503, subcode=1, message="The worker was lost and no attempts are left.")
NEVER_STARTED = ResultInfo(code=408, subcode=2, message="The operation was not started in time.")
NO_WORKER = ResultInfo(code=501, subcode=1, message="No worker had the operation's type in time.")
UNTAKEN = ResultInfo(code=503, subcode=2, message="No worker could take the operation.")


class Operation(BaseModel):
    """An operation as its handler sees it. A subclass declares an operation type and the type's members.

    `class Transcode(Operation, type="#contoso.transcodeOperation")` declares the type of that name. Its fields are
    those of a pydantic model. A create is checked against them: a wrong member is answered 400. Names in JSON are in
    camel case (`source_url` is `sourceUrl`). Members that no field declares are kept as the client sent them.

    A field with `json_schema_extra={"readOnly": True}` is a result member: a client cannot set it. The handler sets
    it, and it is stored with the outcome. All result members of an operation take 64 KiB of JSON at most.

    The class statement raises ConfigurationError when there is no `type`, when the name is malformed, or when a field
    has the name of a member that every operation has (`status`, `resultInfo`, …).
    """

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True, validate_assignment=True)

    odata_type: ClassVar[str] = "#microsoft.graph.commsOperation"
    canceled_result: ClassVar[ResultInfo] = CANCELED
    """The `resultInfo` of a canceled operation of this type."""
    canceled_members: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Result members (by JSON name) that a cancel sets."""

    client_context: str | None = Field(None, max_length=CLIENT_CONTEXT_LIMIT)
    """The text that the client gave with the operation, of 256 characters at most; None if there is none."""

    @classmethod
    def __pydantic_init_subclass__(cls, *, type: str | None = None, **kwargs: Any) -> None:  # noqa: A002 - the word users write
        super().__pydantic_init_subclass__(**kwargs)
        if type is None:
            raise ConfigurationError(f"{cls.__qualname__} needs a type: class …(Operation, type='#namespace.name')")
        if not re.fullmatch(TYPE_NAME, type) or not type.startswith("#"):
            raise ConfigurationError(f"{cls.__qualname__}: {type!r} is not of the form '#namespace.name'")
        names = {info.alias or name for name, info in cls.model_fields.items()}
        if taken := names & (READ_ONLY | {"id", "resultInfo"}):
            raise ConfigurationError(f"{type}: {', '.join(sorted(taken))} is a member of every operation already")
        cls.odata_type = type

    def __init_subclass__(cls, *, type: str | None = None, **kwargs: Any) -> None:  # noqa: A002 - read above
        super().__init_subclass__(**kwargs)

    @classmethod
    @cache
    def result_members(cls) -> frozenset[str]:
        """JSON names of the members that only a handler may set."""
        return frozenset(
            info.alias or name
            for name, info in cls.model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("readOnly") is True
        )

    @classmethod
    @cache
    def declared_members(cls) -> frozenset[str]:
        """JSON names of the members that the type declares, those of every operation included."""
        return frozenset(info.alias or name for name, info in cls.model_fields.items())

    @classmethod
    def from_members(cls, members: Json, client_context: str | None) -> Self:
        """Rebuild a stored operation, as JSON like at its create. Raises ValidationError if the type has changed."""
        body = jsons.encode({**members, "clientContext": client_context})
        return cls.model_validate_json(body, by_alias=True, by_name=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """How an operation is tried, resolved at create and stored: a later deploy does not change it.

    Durations are in seconds; 0 stands for "without limit". These defaults are part of the stored form, which
    leaves them out, so they never change: another default belongs into `handles`.
    """

    attempts: int = 3
    run_within: float = 900.0
    start_within: float = 0.0
    grace: float = 5.0
    backoff_first: float = 1.0
    backoff_cap: float = 60.0
    concurrency: int = 0
    rate: int = 0
    per: float = 0.0
    serial: bool = False
    priority: str = "default"
    retention: float = 604_800.0
    tombstone: float = 604_800.0
    canceled: ResultInfo = CANCELED
    canceled_members: Mapping[str, Any] = field(default_factory=dict)


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
