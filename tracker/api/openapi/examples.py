"""Examples of responses, made by the same functions as real responses."""

from http import HTTPStatus
from typing import Any, Final

from tracker.api.links import Links
from tracker.api.openapi.texts import HEADERS, ref
from tracker.api.serializers import monitor, resource
from tracker.domain.operation import DONE, SECOND, Json, Micros, OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import COMMS_OPERATION
from tracker.errors import status_word

_NOON: Final[Micros] = 1_769_860_800 * SECOND
_LINKS: Final = Links("https://example.org")
_CALL: Final = "57dab8b1"
_NEW: Final = Record(
    key="",
    tenant="",
    call_id=_CALL,
    id="8c2ea0d5-6d8a-4c53-9d2c-6a3a6ab3d3c5",
    type=COMMS_OPERATION,
    digest="",
    policy=Policy(),
    client_context="my context",
    created=_NOON,
    changed=_NOON,
)


def completed_operation(type_name: str = COMMS_OPERATION, members: Json | None = None) -> Json:
    """The resource of an operation that has completed."""
    return resource(_completed(type_name, members or {}), context=f"{_LINKS.context(_CALL)}/$entity")


def example_of(schema: Json, status: HTTPStatus) -> Any:
    """A response body of the schema; None when there is no example of the schema."""
    if schema == ref("operation"):
        if status in {HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
            return resource(_NEW, context=f"{_LINKS.context(_CALL)}/$entity")
        return completed_operation()
    if schema == ref("operations"):
        return {"@odata.context": _LINKS.context(_CALL), "@odata.count": 1, "value": [resource(_completed())]}
    if schema == ref("monitor"):
        return monitor(_completed(), resource_location=_LINKS.operation(_CALL, _NEW.id))
    return {"status": "ok"} if schema == ref("health") else None


def error_example(status: HTTPStatus, message: str) -> Json:
    """Graph's error body with a message."""
    ids = {name: HEADERS[name]["example"] for name in ("request-id", "client-request-id")}
    return {
        "error": {
            "code": status_word(status),
            "message": message,
            "innerError": {"date": "2026-01-31T12:00:00Z", **ids},
        }
    }


def _completed(type_name: str = COMMS_OPERATION, members: Json | None = None) -> Record:
    return Record(
        key="",
        tenant="",
        call_id=_CALL,
        id=_NEW.id,
        type=type_name,
        digest="",
        policy=Policy(),
        client_context="my context",
        members=members or {},
        result_info=DONE,
        status=OperationStatus.COMPLETED,
        stage=Stage.COMPLETED,
        attempt=1,
        created=_NOON,
        started=_NOON + 4_000,
        completed=_NOON + 10_000,
        changed=_NOON + 10_000,
        expires=_NOON + 604_800 * SECOND,
    )
