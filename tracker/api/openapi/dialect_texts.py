"""The parts of the OpenAPI description that are about actions and the other dialects."""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from tracker.api.actions import ACTIONS
from tracker.api.odata.query_options import MAX_PAGE_SIZE, PAGE_SIZE
from tracker.api.openapi.components import Text, ref
from tracker.domain.operation import Json


def _option(name: str, description: str, schema: Json | None = None) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}}


def _object(required: tuple[str, ...] = (), **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


def _closed(required: tuple[str, ...] = (), **properties: Json) -> Json:
    """A body without other members."""
    return {**_object(required, **properties), "additionalProperties": False}


def _parameters(action: str, *required: str) -> Json:
    """The body of an action: its parameters are what the members of its type are."""
    kind, members = ACTIONS[action].type.removeprefix("#"), ACTIONS[action].members
    return _closed(required, **{name: ref(f"{kind}/properties/{member}") for name, member in members.items()})


def _list(item: Json) -> Json:
    return {"type": "array", "items": item}


def _google(summary: str, answer: Json, *parameters: Json, body: Json | None = None) -> Text:
    error = ref("googleError")
    return Text(summary, {HTTPStatus.OK: answer}, parameters, body=body, body_required=False, error=error)


def _ogc(summary: str, answer: Json, *parameters: Json) -> Text:
    error = ref("ogcException")
    return Text(summary, {HTTPStatus.OK: answer}, parameters, error=error, error_type="application/problem+json")


_TEXT: Final = {"type": "string"}
_STAMP: Final = {"type": "string", "format": "date-time"}
_ADDRESS: Final = {"type": "string", "format": "uri"}
_STATUS: Final = {"type": "string", "enum": ["accepted", "running", "successful", "failed", "dismissed"]}
_SIZE: Final = {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": PAGE_SIZE}
_PLACE: Final = {"type": "string", "pattern": "^[0-9]{0,18}$"}
_MOST: Final = f"Most that the answer shows, at most {MAX_PAGE_SIZE}."
_OPERATION, _EMPTY, _JOB, _ANY = ref("googleOperation"), _object(), ref("ogcStatusInfo"), {"type": "object"}
_TIMEOUT: Final = _closed(
    timeout={"type": ["string", "null"], "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["30s"]}
)
_EXECUTE: Final = _closed(inputs=_ANY, outputs={"type": "object", "maxProperties": 0}, response={"const": "document"})
_PLAYED: Final = ref("microsoft.graph.playPromptOperation")


def _google_operation(noun: str, which: str) -> Mapping[str, Text]:
    return {
        f"googleCancel{noun}": _google(f"Ask an operation {which}to stop", _EMPTY, body=_closed()),
        f"googleWait{noun}": _google(f"Read an operation {which}once it has ended", _OPERATION, body=_TIMEOUT),
        f"googleGet{noun}": _google(f"Read an operation {which}in Google's words", _OPERATION),
        f"googleDelete{noun}": _google(f"Hide an operation {which}".strip(), _EMPTY),
    }


TEXTS: Final[Mapping[str, Text]] = {
    "playPrompt": Text("Play prompts", {HTTPStatus.OK: _PLAYED}, body=_parameters("playPrompt", "prompts")),
    "refuseAction": Text("Refuse an action of Graph's that is not served", {HTTPStatus.NOT_IMPLEMENTED: ref("error")}),
    **_google_operation("Operation", ""),
    **_google_operation("OperationOfCall", "of a call "),
    "googleListOperations": _google(
        "List a call's operations in Google's words, newest first",
        _object(operations=_list(_OPERATION), nextPageToken=_TEXT),
        _option("pageSize", f"{_MOST} 0: the default.", {**_SIZE, "minimum": 0}),
        _option("pageToken", "The nextPageToken of the page before.", _PLACE),
    ),
    "googleListAllOperations": Text(
        "Refuse to list the operations of all calls",
        {HTTPStatus.NOT_IMPLEMENTED: ref("googleError")},
        error=ref("googleError"),
    ),
    "ogcGetLandingPage": _ogc("Where everything of OGC API – Processes is", _object(("links",), links=_list(_ANY))),
    "ogcGetConformance": _ogc("The conformance classes", _object(("conformsTo",), conformsTo=_list(_ADDRESS))),
    "ogcListProcesses": _ogc(
        "List the operation types",
        _object(("processes", "links"), processes=_list(ref("ogcProcess")), links=_list(_ANY)),
        _option("limit", _MOST, _SIZE),
    ),
    "ogcGetProcess": _ogc("Describe an operation type", ref("ogcProcess")),
    "ogcExecute": Text(
        "Accept an operation of the type",
        {HTTPStatus.CREATED: _JOB},
        body=_EXECUTE,
        error=ref("ogcException"),
        error_type="application/problem+json",
    ),
    "ogcListJobs": _ogc(
        "List what was executed, newest first",
        _object(("jobs", "links"), jobs=_list(_JOB), links=_list(_ANY)),
        _option("limit", _MOST, _SIZE),
        _option("cursor", "As the next link has it.", _PLACE),
    ),
    "ogcGetJob": _ogc("Read how far a job is", _JOB),
    "ogcDismissJob": _ogc("Cancel a job if it has not ended, and hide it", _JOB),
    "ogcGetResults": replace(_ogc("Read what came of a job", _ANY), errors=(HTTPStatus.FAILED_DEPENDENCY,)),
}

SCHEMAS: Final[Mapping[str, Json]] = {
    "googleOperation": _object(
        ("name", "metadata", "done"),
        name=_TEXT,
        metadata=_ANY,
        done={"type": "boolean"},
        response=_ANY,
        error=_object(("code", "message"), code={"type": "integer"}, message=_TEXT, details=_list(_ANY)),
    ),
    "googleError": _object(
        ("error",),
        error=_object(("code", "message", "status"), code={"type": "integer"}, message=_TEXT, status=_TEXT),
    ),
    "ogcProcess": _object(
        ("id", "version"),
        id=_TEXT,
        title=_TEXT,
        description=_TEXT,
        version=_TEXT,
        jobControlOptions=_list(_TEXT),
        outputTransmission=_list(_TEXT),
        links=_list(_ANY),
        inputs=_ANY,
        outputs=_ANY,
    ),
    "ogcStatusInfo": _object(
        ("jobID", "processID", "type", "status"),
        jobID=_TEXT,
        processID=_TEXT,
        type={"const": "process"},
        status=_STATUS,
        message=_TEXT,
        created=_STAMP,
        started=_STAMP,
        finished=_STAMP,
        updated=_STAMP,
        progress={"type": "integer", "minimum": 0, "maximum": 100},
        links=_list(_ANY),
    ),
    "ogcException": _object(
        ("type",),
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        errors=_list(_object(target=_TEXT, message=_TEXT)),
    ),
}
