"""Request bodies of patches, checked member by member."""

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
from tracker.domain.operation import READ_ONLY, START_MEMBERS, Json
from tracker.domain.record import Record
from tracker.domain.type_registry import OperationType

_NOT_WRITABLE = READ_ONLY | {"id", "resultInfo"}


def read_patch(body: Json, record: Record, entry: OperationType | None, *, strict: bool = False) -> Json:
    """Check the body of a PATCH. Returns the fields of the record that it changes, which may be none.

    A client may change `clientContext`, and members that the type does not declare. `entry` is the type; None when it
    is not registered. Null removes a member. Members that only the service writes are ignored, or refused when
    `strict`. A member that the type declares cannot change after the create, so only its stored value is accepted.
    Raises Invalid that names every wrong member.
    """
    errors = FieldErrors()
    check_read_only(body, errors)
    if not isinstance(body.get("id"), str | None):
        errors.add("id", "must be a string")
    result_info_of(body.get("resultInfo"), errors)
    if strict:
        check_control_information(body, errors)
        for name in _ignored(body, record, entry):
            errors.add(name, "is written by the service only")
    client_context = client_context_of(body.get("clientContext"), errors)
    members = _members(body, record, entry, errors)
    errors.raise_any()
    fields: Json = {}
    if "clientContext" in body and client_context != record.client_context:
        fields["client_context"] = client_context
    if members is not None:
        fields["members"] = members
    return fields


def _ignored(body: Json, record: Record, entry: OperationType | None) -> Iterator[str]:
    """Names of members that a PATCH ignores unless it is strict."""
    read_only = _NOT_WRITABLE | _results(record, entry)
    return (name for name in body if name in read_only and not (name == "id" and body["id"] == record.id))


def _results(record: Record, entry: OperationType | None) -> frozenset[str]:
    """Names of result members: those that the type declares, and those that the handler has set.

    A worker may know a type that is not registered here.
    """
    return frozenset(record.results) | (entry.model.result_members() if entry else frozenset())


def _members(body: Json, record: Record, entry: OperationType | None, errors: FieldErrors) -> Json | None:
    """The client's members after the patch; None when they do not change."""
    declared = declared_members(entry)
    results = _results(record, entry)
    before = {name: value for name, value in record.members.items() if name not in record.results}
    after = dict(before)
    for name, value in body.items():
        if "@" in name or name in _NOT_WRITABLE or name in results or name == "clientContext":
            continue
        if name in declared:
            _check_same(name, value, before, record.type, errors)
        elif name in START_MEMBERS:
            errors.add(name, "can be given at create only")
        elif value is None:
            after.pop(name, None)
        else:
            after[name] = value
    if not check_size(after, errors):  # first, because the comparison takes long for large members
        return after
    return None if json.dumps(after) == json.dumps(before) else after  # compared as JSON, because 1 == True in Python


def _check_same(name: str, value: Any, stored: Json, type_name: str, errors: FieldErrors) -> None:
    """Add an error if a member that the type declares would change."""
    if not _is_same(value, stored.get(name)):
        errors.add(name, f"belongs to {type_name}, and was fixed when the operation was created")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. Two texts that are the same time are equal, too.

    Microsoft's Graph SDKs read every text that looks like a time as a time, and write it back in their own form.
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
