"""The schemas that every OpenAPI description of ours has: written by hand."""

from collections.abc import Mapping
from typing import Final

from tracker.api.openapi.components import ref
from tracker.api.openapi.texts import PATH_PARAMETERS
from tracker.domain.operation import CLIENT_CONTEXT_LIMIT, MESSAGE_LIMIT, Json, OperationStatus

_STAMP: Final = {"type": "string", "format": "date-time", "readOnly": True}
_PERCENT: Final = {"type": "integer", "minimum": 0, "maximum": 100, "readOnly": True}
_INT32: Final = {"type": "integer", "format": "int32"}
_RESULT_TYPES: Final = [f"{sign}microsoft.graph.{name}" for sign in ("#", "") for name in ("resultInfo", "ResultInfo")]
_DETAIL: Final = {name: {"type": "string"} for name in ("code", "message", "target")}

SCHEMAS: Final[Mapping[str, Json]] = {
    "operationStatus": {"type": "string", "enum": [status.value for status in OperationStatus]},
    "anyOperation": {
        "description": "A long-running operation: its status, what it was asked for, and how it ended.",
        "type": "object",
        "properties": {
            "@odata.type": {"type": "string"},
            "id": PATH_PARAMETERS["operation_id"],
            "status": {**ref("operationStatus"), "readOnly": True},
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
            "attempt": {**_INT32, "minimum": 0, "readOnly": True},
            "cancelRequestedDateTime": _STAMP,
        },
        "additionalProperties": True,
    },
    "resultInfo": {
        "type": "object",
        "description": "How an operation ended: `code` follows the classes of HTTP, `message` is for people.",
        "properties": {
            "@odata.type": {"enum": _RESULT_TYPES},
            "code": _INT32,
            "subcode": {**_INT32, "type": ["integer", "null"]},
            "message": {"type": ["string", "null"], "maxLength": MESSAGE_LIMIT},
        },
        "required": ["code"],
    },
    "operations": {
        "type": "object",
        "properties": {
            "@odata.context": {"type": "string"},
            "@odata.count": {"type": "integer"},
            "value": {"type": "array", "items": ref("operation")},
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
    "batch": {
        "type": "object",
        "properties": {
            "requests": {
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string", "minLength": 1},
                        "method": {"type": "string", "enum": ["GET", "POST", "PATCH", "PUT", "DELETE"]},
                        "url": {"type": "string", "minLength": 1},
                        "headers": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
                        "body": {},
                        "dependsOn": {"type": ["array", "null"], "items": {"type": "string"}},
                    },
                    "required": ["id", "method", "url"],
                },
            }
        },
        "required": ["requests"],
    },
    "batchAnswer": {
        "type": "object",
        "properties": {
            "responses": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "status": {"type": "integer"},
                        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                        "body": {},
                    },
                    "required": ["id", "status", "headers", "body"],
                },
            }
        },
        "required": ["responses"],
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
