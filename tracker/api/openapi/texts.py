"""What the OpenAPI description says of each route: written by hand."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from tracker.api.actions import UNSERVED
from tracker.api.odata.query_options import MAX_PAGE_SIZE, PAGE_SIZE
from tracker.api.openapi.components import Text, ref
from tracker.api.openapi.components import parameter as _parameter
from tracker.domain.operation import Json

PATH_PARAMETERS: Final[Mapping[str, Json]] = {
    "call_id": {
        "description": "The call's name: no control characters, and not . or ..; it need not have been used before.",
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f-\u009f]+$",
        "examples": ["57dab8b1"],
    },
    "operation_id": {
        "description": "The operation's id.",
        "type": "string",
        "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$",
        "examples": ["8c2ea0d5-6d8a-4c53-9d2c-6a3a6ab3d3c5"],
    },
    "process_id": {
        "description": "The type's name, without its #.",
        "type": "string",
        "pattern": r"^[A-Za-z_][A-Za-z0-9_.]{0,126}$",
        "examples": ["microsoft.graph.playPromptOperation"],
    },
    "action": {
        "description": "The action's name.",
        "type": "string",
        "enum": list(UNSERVED),
        "examples": [UNSERVED[0]],
    },
    "file": {"description": "The name of a file.", "type": "string", "examples": ["swagger-ui.css"]},
}

_4_0_OR_4_01: Final = {"type": "string", "enum": ["4.0", "4.01"]}
_FROM_4_0: Final = {"anyOf": [_4_0_OR_4_01, {"type": "string", "pattern": r"^([4-9]|[1-9][0-9]{1,3})\.[0-9]{1,4}$"}]}
COMMON_HEADERS: Final = (
    _parameter("header", "client-request-id", "Your name for the request; echoed."),
    _parameter("header", "OData-MaxVersion", "4.01 for an answer in that version.", _FROM_4_0),
    _parameter(
        "header", "OData-Version", "The version that the request is in.", {"type": "string", "enum": ["4.0", "4.01"]}
    ),
)
_IF_NONE_MATCH: Final = _parameter("header", "If-None-Match", "ETags that you have.")
_IF_MATCH: Final = _parameter("header", "If-Match", "ETag that the operation must still have.")
_WAIT: Final = _parameter("header", "Prefer", "wait=N holds the answer up to N (≤ 60) seconds for a change.")
_PREFER_CREATE: Final = _parameter(
    "header", "Prefer", "return=minimal|representation, respond-async[, wait=N], handling=strict|lenient."
)
_PREFER_CHANGE: Final = _parameter("header", "Prefer", "return=minimal|representation, handling=strict|lenient.")
_RESUME: Final = _parameter("header", "Last-Event-ID", "The id of the last event that you have.")
_PAGE: Final = _parameter("header", "Prefer", "odata.maxpagesize=N limits a page.")
_FORMAT: Final = _parameter(
    "query", "$format", "Counts before Accept.", {"type": "string", "enum": ["xml", "application/xml"]}
)
_CHOSEN: Final = (
    _parameter("query", "$filter", "eq ne gt ge lt le in and or not () startswith contains endswith isof."),
    _parameter("query", "$search", "Words and phrases in clientContext or statusDetail; AND OR NOT ()."),
)
_SELECT: Final = _parameter("query", "$select", "The members that are wanted, with commas between.")
_TOP: Final = {"type": "integer", "minimum": 0, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE}
_LISTING: Final = (
    *_CHOSEN,
    _SELECT,
    _parameter("query", "$orderby", "Members, each with asc or desc; createdDateTime desc by default."),
    _parameter("query", "$top", "Page size.", _TOP),
    _parameter("query", "$skip", "How many to leave out first.", {"type": "integer", "minimum": 0, "default": 0}),
    _parameter("query", "$count", "Adds @odata.count.", {"type": "boolean", "default": False}),
    _parameter("query", "$skiptoken", "As @odata.nextLink has it."),
)

_NAME: Final = {"type": "string", "pattern": "^[!-~]{1,255}$"}
_DATE: Final = {
    "type": "string",
    "pattern": "^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$",
    "examples": ["Sat, 31 Jan 2026 12:00:00 GMT"],
}
_ONCE: Final = (
    _parameter("header", "Idempotency-Key", "Your name for the request: sent again, it makes nothing twice.", _NAME),
    _parameter("header", "Repeatability-Request-ID", "The same, with Repeatability-First-Sent.", _NAME),
    _parameter("header", "Repeatability-First-Sent", "When the request was first sent, as an HTTP date.", _DATE),
    _parameter("header", "Operation-Id", "The same as Idempotency-Key.", _NAME),
)

_STREAM: Final = {
    "description": "Each event: its data is JSON.",
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("id", "event", "data")},
        "retry": {"type": "integer"},
    },
}
_OPERATION, _MONITOR, _HEALTH = ref("operation"), ref("monitor"), ref("health")
_CANCEL_BODY: Final = {
    "type": "object",
    "properties": {"reason": {"type": ["string", "null"], "maxLength": 256}},
    "examples": [{"reason": "changed my mind"}],
}
_KEPT: Final = {HTTPStatus.OK: ("ETag", "Cache-Control"), HTTPStatus.NOT_MODIFIED: ("ETag", "Cache-Control")}

TEXTS: Final[Mapping[str, Text]] = {
    "createOperation": Text(
        "Accept an operation; the same id and body again is the stored one",
        {
            HTTPStatus.CREATED: _OPERATION,
            HTTPStatus.OK: _OPERATION,
            HTTPStatus.ACCEPTED: _OPERATION,
            HTTPStatus.NO_CONTENT: None,
        },
        (*_ONCE, _PREFER_CREATE),
        body=ref("newOperation"),
    ),
    "listOperations": Text(
        "List a call's operations, newest first unless asked otherwise",
        {HTTPStatus.OK: ref("operations")},
        (*_LISTING, _PAGE),
    ),
    "countOperations": Text(
        "Count a call's operations", {HTTPStatus.OK: {"type": "integer"}}, _CHOSEN, media_type="text/plain"
    ),
    "getOperation": Text(
        "Read an operation",
        {HTTPStatus.OK: _OPERATION, HTTPStatus.NOT_MODIFIED: None},
        (_SELECT, _IF_MATCH, _IF_NONE_MATCH, _WAIT),
    ),
    "updateOperation": Text(
        "Change an operation's clientContext and the members that its type does not declare",
        {HTTPStatus.OK: _OPERATION, HTTPStatus.NO_CONTENT: None},
        (_IF_MATCH, _PREFER_CHANGE),
        body=ref("sentMembers"),
    ),
    "deleteOperation": Text("Hide an operation", {HTTPStatus.NO_CONTENT: None}, (_IF_MATCH,)),
    "cancelOperation": Text(
        "Ask an operation to stop",
        {HTTPStatus.ACCEPTED: _OPERATION, HTTPStatus.OK: _OPERATION},
        (_IF_MATCH,),
        body=_CANCEL_BODY,
        body_required=False,
    ),
    "followOperation": Text(
        "Follow an operation: events",
        {HTTPStatus.OK: _STREAM, HTTPStatus.NO_CONTENT: None},
        (_RESUME,),
        media_type="text/event-stream",
    ),
    "followCall": Text(
        "Follow a call's operations: events", {HTTPStatus.OK: _STREAM}, (_RESUME,), media_type="text/event-stream"
    ),
    "followAll": Text(
        "Follow all operations: events", {HTTPStatus.OK: _STREAM}, (_RESUME,), media_type="text/event-stream"
    ),
    "getMonitor": Text("Read how far an operation is, in Azure's words", {HTTPStatus.OK: _MONITOR}),
    "cancelMonitored": Text("Ask an operation to stop", {HTTPStatus.ACCEPTED: None, HTTPStatus.NO_CONTENT: None}),
    "runBatch": Text("Run up to 20 requests in one", {HTTPStatus.OK: ref("batchAnswer")}, body=ref("batch")),
    "isHealthy": Text("Whether the process lives", {HTTPStatus.OK: _HEALTH}),
    "isReady": Text(
        "Whether operations can be accepted", {HTTPStatus.OK: _HEALTH}, errors=(HTTPStatus.SERVICE_UNAVAILABLE,)
    ),
    "getDescription": Text(
        "This description",
        {HTTPStatus.OK: {"type": "object"}, HTTPStatus.NOT_MODIFIED: None},
        (_IF_NONE_MATCH,),
        headers=_KEPT,
    ),
    "getMetadata": Text(
        "The types as OData describes them",
        {HTTPStatus.OK: {"type": "string"}, HTTPStatus.NOT_MODIFIED: None},
        (_IF_NONE_MATCH, _FORMAT),
        headers=_KEPT,
        errors=(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.NOT_IMPLEMENTED),
        media_type="application/xml",
    ),
    "getPage": Text(
        "This description as a page",
        {HTTPStatus.OK: {"type": "string"}, HTTPStatus.NOT_MODIFIED: None},
        (_IF_NONE_MATCH,),
        headers={**_KEPT, HTTPStatus.OK: (*_KEPT[HTTPStatus.OK], "Content-Security-Policy")},
        errors=(HTTPStatus.NOT_FOUND,),
        media_type="text/html",
    ),
    "getPageFile": Text(
        "A file of that page",
        {HTTPStatus.OK: {"type": "string"}, HTTPStatus.NOT_MODIFIED: None},
        (_IF_NONE_MATCH,),
        headers=_KEPT,
        errors=(HTTPStatus.NOT_FOUND,),
        media_type="*/*",
    ),
}
