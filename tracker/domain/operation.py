"""What an operation is: its public status, its stages, its result, and the record that is the only truth."""

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


class ResultInfo(BaseModel):
    """Graph's `resultInfo`: `code` follows HTTP classes, `subcode` is specific, `message` is for people."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    code: Int32
    subcode: Int32 = 0
    message: str = Field("", max_length=MESSAGE_LIMIT)


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
    """An operation as its handler sees it: subclass it to declare a type and its members.

    `class Transcode(Operation, type="#contoso.transcodeOperation")` gives the type validation at create and a
    schema. JSON names are camelCase. Undeclared members are kept as they are (Graph's open type). A member
    with `json_schema_extra={"readOnly": True}` is a result member: a client cannot set it, the handler can,
    and it is stored with the outcome.
    """

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True, validate_assignment=True)

    odata_type: ClassVar[str] = "#microsoft.graph.commsOperation"
    canceled_result: ClassVar[ResultInfo] = CANCELED
    """The `resultInfo` of a canceled operation of this type."""
    canceled_members: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Result members (by JSON name) that a cancel sets."""

    client_context: str | None = Field(None, max_length=CLIENT_CONTEXT_LIMIT)

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
        body = json_codec.encode({**members, "clientContext": client_context})
        return cls.model_validate_json(body, by_alias=True, by_name=False)
