"""Members that creates and patches share, checked one by one."""

from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from tracker import json_codec
from tracker.bodies.field_errors import FieldErrors
from tracker.domain.operation import (
    CLIENT_CONTEXT_LIMIT,
    READ_ONLY,
    Json,
    ResultInfo,
)
from tracker.domain.type_registry import OperationType

MEMBERS_LIMIT = 64 * 1024
"""Bytes of all typed and dynamic members together, as JSON."""
DEPTH_LIMIT = 32
_NUMBERS = frozenset({"percentComplete", "attempt"})
"""Read-only members that are numbers; the others are texts."""
_RESULT_TYPE = "microsoft.graph.resultinfo"
_RESULT_MEMBERS = frozenset(ResultInfo.model_fields)


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


def declared_members(kind: OperationType | None) -> frozenset[str]:
    """JSON names of the members that the type declares."""
    return kind.model.declared_members() if kind else frozenset()


def check_size(members: Json, findings: FieldErrors) -> None:
    """How deep and how large a client's members may be, all together."""
    if not members:
        return
    if json_codec.depth(members) - 1 > DEPTH_LIMIT:  # the object that holds all members is none of them
        findings.add("", f"members may be nested at most {DEPTH_LIMIT} deep")
    elif len(json_codec.encode(members)) > MEMBERS_LIMIT:
        findings.add("", f"members may take at most {MEMBERS_LIMIT} bytes in all")
