"""Operations as their handlers see them, with their public status and result."""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tracker import json_codec
from tracker.errors import ConfigurationError

Micros = int
"""A time or a duration in microseconds. A time counts from 1970-01-01 UTC, by the Redis server's clock."""

SECOND: Micros = 1_000_000
CLIENT_CONTEXT_LIMIT = 256
"""How many characters `clientContext` has at most (Graph: "Can have a maximum of 256 characters")."""

MESSAGE_LIMIT = 4096
"""How many characters the `message` of a `resultInfo` has at most."""

TYPE_NAME = r"#?[A-Za-z_][A-Za-z0-9_.]{0,126}"
"""The pattern of a type's name. Type names are compared without case, and Lua scripts know the case of ASCII only."""

READ_ONLY = frozenset(
    {
        *("status", "createdDateTime", "startedDateTime", "completedDateTime", "lastActionDateTime"),
        *("expirationDateTime", "percentComplete", "statusDetail", "attempt", "cancelRequestedDateTime"),
        "notBeforeDateTime",
    }
)
"""Members that only the service writes. A request body may have them; they are ignored (OData 4.01, 11.4.2)."""

START_MEMBERS = frozenset({"delay", "notBefore"})
"""Members of a create that say when the operation may start, unless its type declares a member of that name."""


def _as_whole(value: Any) -> Any:
    """Read 1.0 as 1. In JSON a number without a fraction is an integer (JSON Schema, 6.1.1)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Int32 = Annotated[int, BeforeValidator(_as_whole), Field(ge=-(2**31), lt=2**31)]
"""OData's `Edm.Int32`, which Graph uses for `code` and `subcode`."""
Json = dict[str, Any]
"""A JSON object."""


class OperationStatus(StrEnum):
    """Graph's `operationStatus`. It never goes backwards and has no other values."""

    NOT_STARTED = "NotStarted"
    """No attempt has begun. The first claim by a worker changes it to `Running`."""
    RUNNING = "Running"
    """An attempt has begun. It stays `Running` between attempts, until a final outcome is written."""
    COMPLETED = "Completed"
    """The operation was done. Final."""
    FAILED = "Failed"
    """The operation failed or was canceled. Final."""

    final: bool
    """Whether the status never changes again."""

    def __init__(self, word: str) -> None:
        self.final = word in {"Completed", "Failed"}


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
"""The `code` of an operation whose handler raises `Rejected` without a code."""
TIMED_OUT = ResultInfo(code=408, subcode=1, message="The attempt did not end within its time limit.")
RAISED = ResultInfo(code=500, subcode=1, message="The handler failed.")
LOST = ResultInfo(code=503, subcode=1, message="The operation ended its worker's process.")
UNPROVEN = ResultInfo(
    code=503,
    subcode=1,
    message="The process or the worker of the attempt died, and the type forbids another attempt.",
)
NEVER_STARTED = ResultInfo(code=408, subcode=2, message="The operation was not started in time.")
NO_WORKER = ResultInfo(code=501, subcode=1, message="No worker had the operation's type in time.")
UNTAKEN = ResultInfo(code=503, subcode=2, message="No worker could take the operation.")
WORKERS_LOST = ResultInfo(
    code=503, subcode=3, message="The workers of the operation were lost; the cause is not known."
)


class Operation(BaseModel):
    """An operation as its handler sees it. A subclass declares a type and its members.

    `class Transcode(Operation, type="#contoso.transcodeOperation")` declares the type of that name. Its members are
    pydantic fields: a create is validated against them, and the OpenAPI and OData descriptions show them. The JSON name
    of `source_url` is `sourceUrl`. Members that are not declared are kept as they are (Graph's open types).

    A member with `json_schema_extra={"readOnly": True}` is a result member. A client cannot set it. The handler sets
    it, and it is stored with the outcome. All result members of an operation take 64 KiB of JSON at most.

    The declaration raises ConfigurationError when the name is not of the form `#namespace.name`, or when a member has
    the name of a member that every operation has.
    """

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True, validate_assignment=True)

    odata_type: ClassVar[str] = "#microsoft.graph.commsOperation"
    canceled_result: ClassVar[ResultInfo] = CANCELED
    """The `resultInfo` of an operation of this type that was canceled."""
    canceled_members: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Result members that a cancel sets, by JSON name."""

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

    def __init_subclass__(cls, *, type: str | None = None, **kwargs: Any) -> None:  # noqa: A002 - the hook above reads it
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
        """JSON names of the members that the type declares, and of `clientContext`."""
        return frozenset(info.alias or name for name, info in cls.model_fields.items())

    @classmethod
    def from_members(cls, members: Json, client_context: str | None) -> Self:
        """Make the operation from its stored members. Pydantic reads JSON text here, as at the create.

        Raises pydantic's ValidationError when the members do not fit the type, which may have changed since the create.
        """
        body = json_codec.encode({**members, "clientContext": client_context})
        return cls.model_validate_json(body, by_alias=True, by_name=False)
