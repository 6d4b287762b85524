"""What a client asks for: a request's body, judged member by member."""

import re
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from unicodedata import category

from tracker import json_codec
from tracker.bodies.field_errors import FieldErrors
from tracker.bodies.members import (
    check_control_information,
    check_read_only,
    check_size,
    client_context_of,
    result_info_of,
)
from tracker.bodies.start_time import read_delay, read_not_before, start_member_names, start_members
from tracker.domain.operation import (
    READ_ONLY,
    TYPE_NAME,
    Json,
    Micros,
    Operation,
    ResultInfo,
)
from tracker.domain.type_registry import COMMS_OPERATION, OperationType, TypeRegistry
from tracker.errors import Invalid

CALL_ID_LIMIT = 256
KNOWN_SHOWN = 20
"""Type names that an error lists at most."""

_OWN = frozenset({"id", "clientContext", "resultInfo"})
_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_DOTS = frozenset({".", ".."})
"""What clients take out of a path (RFC 3986, 5.2.4), so that nobody could ask for it."""
_TAKEN = _DOTS | {"events"}
"""With what a path of our own ends, where an operation's ends with its id."""


class CreateRequest(NamedTuple):
    """A body that is acceptable. `digest` tells the same request again from another with the same id.

    The operation starts neither before `delay` seconds from now nor before `not_before`.
    """

    type: OperationType
    id: str | None
    client_context: str | None
    result_info: ResultInfo | None
    members: Json
    delay: float
    not_before: Micros
    digest: str


def read_create(
    call_id: str, body: Json, registry: TypeRegistry, *, accept_unknown: bool = False, strict: bool = False
) -> CreateRequest:
    """Judge a create request's body. Raises Invalid naming every wrong member, when `strict` also ignored ones."""
    findings = FieldErrors()
    kind = _type(body.get("@odata.type"), registry, findings, accept_unknown=accept_unknown)
    operation_id = _id(body.get("id"), findings)
    client_context = client_context_of(body.get("clientContext"), findings)
    result_info = result_info_of(body.get("resultInfo"), findings)
    check_read_only(body, findings)
    if strict:
        _check_strictly(body, kind, findings)
    waits = start_members(body, kind)
    delay, not_before = read_delay(waits.get("delay"), findings), read_not_before(waits.get("notBefore"), findings)
    sent = members = _members(body, kind, findings)
    if kind is not None:
        try:
            members = kind.validate(sent)
        except Invalid as error:
            findings.details.extend(error.details)
    findings.raise_any()
    assert kind is not None  # noqa: S101 - _type has reported it otherwise
    result = result_info and {"code": result_info.code, "subcode": result_info.subcode, "message": result_info.message}
    told = [call_id, kind.name, client_context, result, sent]
    if waits:
        told.append(waits)
    digest = sha256(json_codec.canonical(told)).hexdigest()[:32]
    return CreateRequest(kind, operation_id, client_context, result_info, members, delay, not_before, digest)


@lru_cache(1024)
def _is_call_id(text: str) -> bool:
    return text not in _DOTS and 1 <= len(text) <= CALL_ID_LIMIT and all(category(letter) != "Cc" for letter in text)


def check_call_id(call_id: str) -> None:
    """A call's name: 1–256 characters, none of them a control character. Raises Invalid."""
    if not _is_call_id(call_id):
        message = f"callId: must be 1 to {CALL_ID_LIMIT} characters without control characters, and not . or .."
        raise Invalid(message, target="callId")


def _type(value: Any, registry: TypeRegistry, findings: FieldErrors, *, accept_unknown: bool) -> OperationType | None:
    if value is None:
        value = COMMS_OPERATION
    if not isinstance(value, str):
        findings.add("@odata.type", "must be a string")
        return None
    if (kind := registry.get(value)) is not None:
        return kind
    if accept_unknown and re.fullmatch(TYPE_NAME, value):
        return OperationType(f"#{value.removeprefix('#')}", Operation, None)
    known = ", ".join(list(registry)[:KNOWN_SHOWN])
    findings.add("@odata.type", f"'{value[:128]}' is not a registered operation type; known here: {known}")
    return None


def _id(value: Any, findings: FieldErrors) -> str | None:
    if value is None or (isinstance(value, str) and _ID.fullmatch(value) and value not in _TAKEN):
        return value
    findings.add("id", "must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ -, and not ., .. or events")
    return None


def _check_strictly(body: Json, kind: OperationType | None, findings: FieldErrors) -> None:
    check_control_information(body, findings)
    results = kind.model.result_members() if kind else frozenset()
    for name in body:
        if name in READ_ONLY or name in results:
            findings.add(name, "is written by the service only")


@lru_cache(256)
def _left_out(model: type[Operation] | None) -> frozenset[str]:
    return READ_ONLY | _OWN | start_member_names(model) | (model.result_members() if model else frozenset())


def _members(body: Json, kind: OperationType | None, findings: FieldErrors) -> Json:
    """Typed and dynamic members: what is neither ours, nor read-only, nor OData's control information."""
    left_out = _left_out(kind and kind.model)
    members = {name: value for name, value in body.items() if name not in left_out and "@" not in name}
    check_size(members, findings)
    return members
