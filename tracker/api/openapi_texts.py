"""The parts of the OpenAPI description that are written by hand: texts, parameters and the common schemas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from tracker.model import CLIENT_CONTEXT_LIMIT, Json, OperationStatus

SCHEMA_ROOT: Final = "#/components/schemas/"
INFO: Final = {
    "title": "Operation tracker",
    "version": "1",
    "description": "Long-running operations, shaped like Microsoft Graph's commsOperation.",
}


def ref(name: str) -> Json:
    """A reference to a schema of the description."""
    return {"$ref": f"{SCHEMA_ROOT}{name}"}


def _parameter(place: str, name: str, description: str, schema: Json | None = None) -> Json:
    return {"name": name, "in": place, "description": description, "schema": schema or {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Text:
    """What is said about one route; an answer's schema is None when it has no body."""

    summary: str
    answers: Mapping[HTTPStatus, Json | None]
    parameters: Sequence[Json] = field(default_factory=tuple)
    body: Json | None = None
    body_required: bool = True


PATH_PARAMETERS: Final[Mapping[str, Json]] = {
    "call_id": {"type": "string", "minLength": 1, "maxLength": 256},
    "operation_id": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"},
}

COMMON_HEADERS: Final = (
    _parameter("header", "client-request-id", "Your name for the request; echoed."),
    _parameter("header", "OData-MaxVersion", "4.01 for an answer in that version."),
)
_IF_NONE_MATCH: Final = _parameter("header", "If-None-Match", "ETags that you have.")
_IF_MATCH: Final = _parameter("header", "If-Match", "ETag that the operation must still have.")
_WAIT: Final = _parameter("header", "Prefer", "wait=N holds the answer up to N (≤ 60) seconds for a change.")
_RESUME: Final = _parameter("header", "Last-Event-ID", "The id of the last event that you have.")
_PAGE: Final = _parameter("header", "Prefer", "odata.maxpagesize=N limits a page.")
_LISTING: Final = (
    _parameter("query", "$filter", "status eq '…', clientContext eq '…', or both joined with and."),
    _parameter("query", "$top", "Page size.", {"type": "integer", "minimum": 0, "maximum": 999, "default": 100}),
    _parameter("query", "$count", "Adds @odata.count.", {"type": "boolean", "default": False}),
    _parameter("query", "$skiptoken", "As @odata.nextLink has it."),
)

_OPERATION, _MONITOR, _HEALTH = ref("operation"), ref("monitor"), ref("health")
_CANCEL_BODY: Final = {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 256}}}

TEXTS: Final[Mapping[str, Text]] = {
    "createOperation": Text(
        "Accept an operation; the same id and body again is the stored one",
        {HTTPStatus.CREATED: _OPERATION, HTTPStatus.OK: _OPERATION},
        body=_OPERATION,
    ),
    "listOperations": Text(
        "List a call's operations, newest first", {HTTPStatus.OK: ref("operations")}, (*_LISTING, _PAGE)
    ),
    "getOperation": Text(
        "Read an operation",
        {HTTPStatus.OK: _OPERATION, HTTPStatus.NOT_MODIFIED: None},
        (_IF_NONE_MATCH, _WAIT),
    ),
    "deleteOperation": Text("Hide an operation", {HTTPStatus.NO_CONTENT: None}, (_IF_MATCH,)),
    "cancelOperation": Text(
        "Ask an operation to stop",
        {HTTPStatus.ACCEPTED: _OPERATION, HTTPStatus.OK: _OPERATION},
        body=_CANCEL_BODY,
        body_required=False,
    ),
    "followOperation": Text(
        "Follow an operation: events", {HTTPStatus.OK: None, HTTPStatus.NO_CONTENT: None}, (_RESUME,)
    ),
    "followCall": Text("Follow a call's operations: events", {HTTPStatus.OK: None}, (_RESUME,)),
    "followAll": Text("Follow all operations: events", {HTTPStatus.OK: None}, (_RESUME,)),
    "getMonitor": Text("Read how far an operation is, in Azure's words", {HTTPStatus.OK: _MONITOR}),
    "cancelMonitored": Text("Ask an operation to stop", {HTTPStatus.ACCEPTED: None, HTTPStatus.NO_CONTENT: None}),
    "isHealthy": Text("Whether the process lives", {HTTPStatus.OK: _HEALTH}),
    "isReady": Text("Whether operations can be accepted", {HTTPStatus.OK: _HEALTH}),
    "getDescription": Text("This description", {HTTPStatus.OK: {"type": "object"}}),
}

_STAMP: Final = {"type": "string", "format": "date-time", "readOnly": True}
_PERCENT: Final = {"type": "integer", "minimum": 0, "maximum": 100, "readOnly": True}
_STATUS: Final = {"type": "string", "enum": [status.value for status in OperationStatus], "readOnly": True}
_INT32: Final = {"type": "integer", "format": "int32"}
_DETAIL: Final = {name: {"type": "string"} for name in ("code", "message", "target")}

WAITS: Final[Mapping[str, Json]] = {
    "delay": {
        "description": "Not before so long from now: seconds, or a text like 90s, 1h30m or PT90S; at most 366 days.",
        "type": ["number", "string", "null"],
        "writeOnly": True,
    },
    "notBefore": {
        "description": "Not before this time; at most 366 days ahead.",
        "type": ["string", "null"],
        "format": "date-time",
        "writeOnly": True,
    },
}
"""Members of every operation whose type has no member of its own of that name."""

SCHEMAS: Final[Mapping[str, Json]] = {
    "anyOperation": {
        "type": "object",
        "properties": {
            "@odata.type": {"type": "string"},
            "id": PATH_PARAMETERS["operation_id"],
            "status": _STATUS,
            "clientContext": {"type": ["string", "null"], "maxLength": CLIENT_CONTEXT_LIMIT},
            "resultInfo": {"anyOf": [ref("resultInfo"), {"type": "null"}]},
            "createdDateTime": _STAMP,
            "notBeforeDateTime": _STAMP,
            "startedDateTime": _STAMP,
            "completedDateTime": _STAMP,
            "lastActionDateTime": _STAMP,
            "expirationDateTime": _STAMP,
            "percentComplete": _PERCENT,
            "statusDetail": {"type": "string", "readOnly": True},
            "attempt": {"type": "integer", "minimum": 0, "readOnly": True},
            "cancelRequestedDateTime": _STAMP,
        },
        "additionalProperties": True,
    },
    "resultInfo": {
        "type": "object",
        "properties": {"code": _INT32, "subcode": _INT32, "message": {"type": "string"}},
        "required": ["code"],
    },
    "operations": {
        "type": "object",
        "properties": {
            "@odata.context": {"type": "string"},
            "@odata.count": {"type": "integer"},
            "value": {"type": "array", "items": _OPERATION},
            "@odata.nextLink": {"type": "string", "format": "uri"},
        },
        "required": ["value"],
    },
    "monitor": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "status": {"type": "string", "enum": ["NotStarted", "Running", "Succeeded", "Failed", "Canceled"]},
            "percentComplete": _PERCENT,
            "createdDateTime": _STAMP,
            "lastActionDateTime": _STAMP,
            "resourceLocation": {"type": "string", "format": "uri"},
            "error": {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}},
        },
        "required": ["id", "status", "createdDateTime", "lastActionDateTime", "resourceLocation"],
    },
    "health": {"type": "object", "properties": {"status": {"type": "string"}}},
    "error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    **_DETAIL,
                    "details": {"type": "array", "items": {"type": "object", "properties": _DETAIL}},
                    "innerError": {
                        "type": "object",
                        "properties": {
                            "date": {"type": "string", "format": "date-time"},
                            "request-id": {"type": "string", "format": "uuid"},
                            "client-request-id": {"type": "string"},
                        },
                    },
                },
                "required": ["code", "message"],
            }
        },
        "required": ["error"],
    },
}
