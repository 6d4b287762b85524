"""Request bodies of creates, checked member by member."""

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
"""How many known type names an error message lists at most."""

_OWN = frozenset({"id", "clientContext", "resultInfo"})
_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_DOTS = frozenset({".", ".."})
"""Path segments that clients remove from a URL (RFC 3986, 5.2.4). An operation of that name could not be read."""
_TAKEN = _DOTS | {"events"}
"""Ids that are not possible: `…/operations/events` is a path of its own, where an id would stand."""


class CreateRequest(NamedTuple):
    """A create whose body is valid.

    `id` is None when the client left it to the service. The operation starts neither before `delay` seconds from now
    nor before `not_before`. `digest` is of all that the client asked for: two creates with the same id and the same
    digest are the same request, sent twice.
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
    """Check the body of a create.

    `accept_unknown` accepts types that are not registered. `strict` refuses members that are otherwise ignored. Raises
    Invalid that names every wrong member.
    """
    errors = FieldErrors()
    entry = _type(body.get("@odata.type"), registry, errors, accept_unknown=accept_unknown)
    operation_id = _id(body.get("id"), errors)
    client_context = client_context_of(body.get("clientContext"), errors)
    result_info = result_info_of(body.get("resultInfo"), errors)
    check_read_only(body, errors)
    if strict:
        _check_strictly(body, entry, errors)
    start = start_members(body, entry)
    delay, not_before = read_delay(start.get("delay"), errors), read_not_before(start.get("notBefore"), errors)
    sent = members = _members(body, entry)
    if check_size(sent, errors) and entry is not None:
        try:
            members = entry.validate(sent)
        except Invalid as error:
            for detail in error.details:
                errors.add(detail.target or "", detail.message)
    errors.raise_any()
    assert entry is not None  # noqa: S101 - _type has reported it otherwise
    result = result_info and {"code": result_info.code, "subcode": result_info.subcode, "message": result_info.message}
    digested = [call_id, entry.name, client_context, result, sent]
    if start:
        digested.append(start)
    digest = sha256(json_codec.encode_sorted(digested)).hexdigest()[:32]
    return CreateRequest(entry, operation_id, client_context, result_info, members, delay, not_before, digest)


@lru_cache(1024)
def _is_call_id(text: str) -> bool:
    """Whether it is a valid call id. The cache saves 2 % of the instructions of benchmarks.api: $batch."""
    return text not in _DOTS and 1 <= len(text) <= CALL_ID_LIMIT and all(category(letter) != "Cc" for letter in text)


def check_call_id(call_id: str) -> None:
    """Raise Invalid unless `call_id` has 1 to 256 characters without control characters, and is not `.` or `..`."""
    if not _is_call_id(call_id):
        message = f"callId: must be 1 to {CALL_ID_LIMIT} characters without control characters, and not . or .."
        raise Invalid(message, target="callId")


def _type(value: Any, registry: TypeRegistry, errors: FieldErrors, *, accept_unknown: bool) -> OperationType | None:
    if value is None:
        value = COMMS_OPERATION
    if not isinstance(value, str):
        errors.add("@odata.type", "must be a string")
        return None
    if (entry := registry.get(value)) is not None:
        return entry
    if accept_unknown and re.fullmatch(TYPE_NAME, value):
        return OperationType(f"#{value.removeprefix('#')}", Operation, None)
    known = ", ".join(list(registry)[:KNOWN_SHOWN])
    errors.add("@odata.type", f"'{value[:128]}' is not a registered operation type; known here: {known}")
    return None


def _id(value: Any, errors: FieldErrors) -> str | None:
    if value is None or (isinstance(value, str) and _ID.fullmatch(value) and value not in _TAKEN):
        return value
    errors.add("id", "must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ -, and not ., .. or events")
    return None


def _check_strictly(body: Json, entry: OperationType | None, errors: FieldErrors) -> None:
    check_control_information(body, errors)
    results = entry.model.result_members() if entry else frozenset()
    for name in body:
        if name in READ_ONLY or name in results:
            errors.add(name, "is written by the service only")


@lru_cache(256)
def _left_out(model: type[Operation] | None) -> frozenset[str]:
    """Names that are no members of the client. The cache saves 2 % of the instructions of benchmarks.api: $batch."""
    return READ_ONLY | _OWN | start_member_names(model) | (model.result_members() if model else frozenset())


def _members(body: Json, entry: OperationType | None) -> Json:
    """The members of the type and the dynamic ones, without read-only members and OData's control information."""
    left_out = _left_out(entry and entry.model)
    return {name: value for name, value in body.items() if name not in left_out and "@" not in name}
