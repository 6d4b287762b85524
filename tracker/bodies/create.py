"""What a client asks for: a request's body, judged member by member."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from unicodedata import category

from pydantic import ValidationError

from tracker import json_codec
from tracker.bodies.field_errors import FieldErrors
from tracker.domain.operation import (
    CLIENT_CONTEXT_LIMIT,
    READ_ONLY,
    TYPE_NAME,
    WAITS,
    Json,
    Micros,
    Operation,
    ResultInfo,
)
from tracker.domain.type_registry import COMMS_OPERATION, OperationType, TypeRegistry
from tracker.durations import seconds
from tracker.errors import ConfigurationError, Invalid

MEMBERS_LIMIT = 64 * 1024
"""Bytes of all typed and dynamic members together, as JSON."""
DEPTH_LIMIT = 32
CALL_ID_LIMIT = 256
LONGEST_WAIT = timedelta(days=366)
"""How far ahead an operation may be put off."""
KNOWN_SHOWN = 20
"""Type names that an error lists at most."""

_OWN = frozenset({"id", "clientContext", "resultInfo"})
_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_DOTS = frozenset({".", ".."})
"""What clients take out of a path (RFC 3986, 5.2.4), so that nobody could ask for it."""
_NUMBERS = frozenset({"percentComplete", "attempt"})
"""Read-only members that are numbers; the others are texts."""
_TAKEN = _DOTS | {"events"}
"""With what a path of our own ends, where an operation's ends with its id."""
_RESULT_TYPE = "microsoft.graph.resultinfo"
_RESULT_MEMBERS = frozenset(ResultInfo.model_fields)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
"""RFC 3339, 5.6."""
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?(?<![PT])", re.ASCII)
"""OData's Edm.Duration, days and less (CSDL 4.01, 3.3), without a sign."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTAINERS = (dict, list)


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
    waits = _waits(body, kind)
    delay, not_before = _delay(waits.get("delay"), findings), _not_before(waits.get("notBefore"), findings)
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


def check_read_only(body: Json, findings: FieldErrors) -> None:
    """What only the service writes is ignored in a body, but must be of its JSON type."""
    for name, value in body.items():
        if name not in READ_ONLY or value is None:
            continue
        if name not in _NUMBERS and not isinstance(value, str):
            findings.add(name, "must be a string")
        elif name in _NUMBERS and (not isinstance(value, int | float) or isinstance(value, bool)):
            findings.add(name, "must be a number")


def check_control_information(body: Json, findings: FieldErrors) -> None:
    """For who wants to know of everything that is passed over: OData's annotations, but for the type's name."""
    for name in body:
        if "@" in name and name != "@odata.type":
            findings.add(name, "is control information, which is not stored")


def _check_strictly(body: Json, kind: OperationType | None, findings: FieldErrors) -> None:
    check_control_information(body, findings)
    results = kind.model.result_members() if kind else frozenset()
    for name in body:
        if name in READ_ONLY or name in results:
            findings.add(name, "is written by the service only")


def client_context_of(value: Any, findings: FieldErrors) -> str | None:
    """A client context, or None. A wrong one is found."""
    if value is None:
        return None
    if not isinstance(value, str):
        findings.add("clientContext", "must be a string")
    elif len(value) > CLIENT_CONTEXT_LIMIT:
        findings.add("clientContext", f"must have at most {CLIENT_CONTEXT_LIMIT} characters, has {len(value)}")
    else:
        return value
    return None


def result_info_of(value: Any, findings: FieldErrors) -> ResultInfo | None:
    """A `resultInfo`, or None: also for one that holds nothing but its type, as in Graph's documentation."""
    if value is None:
        return None
    if not isinstance(value, dict):
        findings.add("resultInfo", "must be an object")
        return None
    kind = value.get("@odata.type", _RESULT_TYPE)
    if not isinstance(kind, str) or kind.removeprefix("#").lower() != _RESULT_TYPE:
        findings.add("resultInfo/@odata.type", "must be #microsoft.graph.resultInfo")
    given = {name: member for name, member in value.items() if member is not None and "@" not in name}
    if not given:
        return None
    try:
        return _judged(given)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            findings.add(f"resultInfo/{item['loc'][0]}", item["msg"])
        return None


def _judged(given: Json) -> ResultInfo:
    """Raises ValidationError. Only what is of a known size is remembered: no other members, no message too long."""
    if not given.keys() <= _RESULT_MEMBERS:
        return ResultInfo.model_validate(given)
    try:
        return _known_result(**given)
    except TypeError:  # an array or an object has no hash
        return ResultInfo.model_validate(given)


@lru_cache(256, typed=True)  # 1, 1.0 and true are not the same here
def _known_result(**given: Any) -> ResultInfo:
    return ResultInfo.model_validate(given)


def _waits(body: Json, kind: OperationType | None) -> Json:
    """What the body says of when the operation may start; the type's own members of these names are none of it."""
    return {name: body[name] for name in _waits_of(kind and kind.model) if body.get(name) is not None}


@lru_cache(256)
def _waits_of(model: type[Operation] | None) -> frozenset[str]:
    return WAITS - model.declared_members() if model else WAITS


@lru_cache(256)
def _left_out(model: type[Operation] | None) -> frozenset[str]:
    return READ_ONLY | _OWN | _waits_of(model) | (model.result_members() if model else frozenset())


def declared_members(kind: OperationType | None) -> frozenset[str]:
    """JSON names of the members that the type declares."""
    return kind.model.declared_members() if kind else frozenset()


def _delay(value: Any, findings: FieldErrors) -> float:
    """Seconds to wait at least."""
    length = 0.0 if value is None else _seconds(value)
    if length is None:
        findings.add("delay", "must be a number of seconds, or a text like '90s', '1h30m' or 'PT90S'")
    elif not 0 <= length <= LONGEST_WAIT.total_seconds():
        findings.add("delay", f"must be at least 0 and at most {LONGEST_WAIT.days} days")
    else:
        return float(length)
    return 0.0


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    if match := _DURATION.fullmatch(value):
        return sum(float(number or 0) * unit for number, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    try:
        return seconds(value)
    except ConfigurationError:
        return None


def _not_before(value: Any, findings: FieldErrors) -> Micros:
    """The time to wait for at least; one that is past is no wait."""
    if value is None:
        return 0
    moment = _date_time(value)
    if moment is None:
        findings.add("notBefore", "must be a date-time with an offset (RFC 3339), like 2026-01-31T12:00:00Z")
    elif moment - datetime.now(UTC) > LONGEST_WAIT:
        findings.add("notBefore", f"must be at most {LONGEST_WAIT.days} days ahead")
    else:
        return max(0, (moment - _EPOCH) // timedelta(microseconds=1))
    return 0


def _date_time(value: Any) -> datetime | None:
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None


def _members(body: Json, kind: OperationType | None, findings: FieldErrors) -> Json:
    """Typed and dynamic members: what is neither ours, nor read-only, nor OData's control information."""
    left_out = _left_out(kind and kind.model)
    members = {name: value for name, value in body.items() if name not in left_out and "@" not in name}
    check_size(members, findings)
    return members


def check_size(members: Json, findings: FieldErrors) -> None:
    """How deep and how large a client's members may be, all together."""
    if not members:
        return
    if _depth(members) > DEPTH_LIMIT:
        findings.add("", f"members may be nested at most {DEPTH_LIMIT} deep")
    elif len(json_codec.encode(members)) > MEMBERS_LIMIT:
        findings.add("", f"members may take at most {MEMBERS_LIMIT} bytes in all")


def _depth(value: Any) -> int:
    """How deep objects and arrays are nested, without recursion."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [inner for outer in level for inner in _children(outer) if isinstance(inner, _CONTAINERS)]
    return deepest - 1


def _children(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value)
