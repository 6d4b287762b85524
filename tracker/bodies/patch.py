"""What a client changes of an operation: a PATCH's body, judged member by member."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tracker.bodies.field_errors import FieldErrors
from tracker.bodies.members import (
    check_control_information,
    check_read_only,
    check_size,
    client_context_of,
    declared_members,
    result_info_of,
)
from tracker.domain.operation import READ_ONLY, WAITS, Json
from tracker.domain.record import Record
from tracker.domain.type_registry import OperationType

_NOT_WRITABLE = READ_ONLY | {"id", "resultInfo"}


def read_patch(body: Json, record: Record, kind: OperationType | None, *, strict: bool = False) -> Json:
    """The record's fields that the body changes; none when it holds what is stored already.

    Writable are `clientContext` and members that the type (`kind`; None for one that is not registered) does not
    declare; null removes either. What only the service writes is ignored, or refused when `strict`. A member of the
    type was fixed at create: it may be there as it is stored. Raises Invalid naming every wrong member.
    """
    findings = FieldErrors()
    check_read_only(body, findings)
    if not isinstance(body.get("id"), str | None):
        findings.add("id", "must be a string")
    result_info_of(body.get("resultInfo"), findings)
    if strict:
        check_control_information(body, findings)
        for name in _ignored(body, record, kind):
            findings.add(name, "is written by the service only")
    client_context = client_context_of(body.get("clientContext"), findings)
    members = _members(body, record, kind, findings)
    findings.raise_any()
    fields: Json = {}
    if "clientContext" in body and client_context != record.client_context:
        fields["client_context"] = client_context
    if members is not None:
        fields["members"] = members
    return fields


def _ignored(body: Json, record: Record, kind: OperationType | None) -> Iterator[str]:
    """Members that a lenient PATCH passes over."""
    read_only = _NOT_WRITABLE | _results(record, kind)
    return (name for name in body if name in read_only and not (name == "id" and body["id"] == record.id))


def _results(record: Record, kind: OperationType | None) -> frozenset[str]:
    """What the handler sets, or has set, as a worker may know a type that is not registered here."""
    return frozenset(record.results) | (kind.model.result_members() if kind else frozenset())


def _members(body: Json, record: Record, kind: OperationType | None, findings: FieldErrors) -> Json | None:
    """The client's members as they shall be; None when that is what they are."""
    declared = declared_members(kind)
    results = _results(record, kind)
    before = {name: value for name, value in record.members.items() if name not in record.results}
    after = dict(before)
    for name, value in body.items():
        if "@" in name or name in _NOT_WRITABLE or name in results or name == "clientContext":
            continue
        if name in declared:
            _check_same(name, value, before, record.type, findings)
        elif name in WAITS:
            findings.add(name, "can be given at create only")
        elif value is None:
            after.pop(name, None)
        else:
            after[name] = value
    if json.dumps(after) == json.dumps(before):  # to Python, 1 and true are the same
        return None
    check_size(after, findings)
    return after


def _check_same(name: str, value: Any, stored: Json, kind: str, findings: FieldErrors) -> None:
    if not _is_same(value, stored.get(name)):
        findings.add(name, f"belongs to {kind}, and was fixed when the operation was created")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are one: also when a date or time in it comes in another form.

    Microsoft's clients read every text that looks like a time as one, and write it back in a form of their own.
    """
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
        case list(), list():
            return len(one) == len(other) and all(map(_is_same, one, other))
        case str(), str():
            return one == other or _is_same_time(one, other)
        case _:
            return bool(one == other)


def _is_same_time(one: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except ValueError:
        return False
