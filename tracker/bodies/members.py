"""Checks of members that creates and patches share."""

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
"""How many bytes all members of a client may take together, as JSON."""
DEPTH_LIMIT = 32
"""How deep objects and arrays in members may be nested."""
_NUMBERS = frozenset({"percentComplete", "attempt"})
"""Read-only members that are numbers. The others are texts."""
_RESULT_TYPE = "microsoft.graph.resultinfo"
_RESULT_MEMBERS = frozenset(ResultInfo.model_fields)


def check_read_only(body: Json, errors: FieldErrors) -> None:
    """Check the JSON types of members that only the service writes. The values that a client sends are ignored."""
    for name, value in body.items():
        if name not in READ_ONLY or value is None:
            continue
        if name not in _NUMBERS and not isinstance(value, str):
            errors.add(name, "must be a string")
        elif name in _NUMBERS and (not isinstance(value, int | float) or isinstance(value, bool)):
            errors.add(name, "must be a number")


def check_control_information(body: Json, errors: FieldErrors) -> None:
    """Add an error for each OData annotation except `@odata.type`.

    Only a strict request is checked (`Prefer: handling=strict`). Other requests may send annotations, which are
    ignored.
    """
    for name in body:
        if "@" in name and name != "@odata.type":
            errors.add(name, "is control information, which is not stored")


def client_context_of(value: Any, errors: FieldErrors) -> str | None:
    """The client context, or None. Adds an error when it is wrong."""
    if value is None:
        return None
    if not isinstance(value, str):
        errors.add("clientContext", "must be a string")
    elif len(value) > CLIENT_CONTEXT_LIMIT:
        errors.add("clientContext", f"must have at most {CLIENT_CONTEXT_LIMIT} characters, has {len(value)}")
    else:
        return value
    return None


def result_info_of(value: Any, errors: FieldErrors) -> ResultInfo | None:
    """The `resultInfo`, or None. Adds an error when it is wrong.

    An object that has only an `@odata.type` gives None, too: Graph's documentation shows a request with that.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        errors.add("resultInfo", "must be an object")
        return None
    type_name = value.get("@odata.type", _RESULT_TYPE)
    if not isinstance(type_name, str) or type_name.removeprefix("#").lower() != _RESULT_TYPE:
        errors.add("resultInfo/@odata.type", "must be #microsoft.graph.resultInfo")
    given = {name: member for name, member in value.items() if member is not None and "@" not in name}
    if not given:
        return None
    try:
        return _validated(given)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            errors.add(f"resultInfo/{item['loc'][0]}", item["msg"])
        return None


def _validated(given: Json) -> ResultInfo:
    """Validate a `resultInfo`. Raises ValidationError.

    Plain code is `ResultInfo.model_validate(given)`. Clients send the same few values again and again, so valid values
    are kept (benchmarks.api: $batch, -3 us of 34; create, -3 us of 99). A value with other members, or with a message
    that is too long, is never kept. So the size of what is kept is bounded.
    """
    if not given.keys() <= _RESULT_MEMBERS:
        return ResultInfo.model_validate(given)
    try:
        return _known_result(**given)
    except TypeError:  # a member is an array or an object, which has no hash
        return ResultInfo.model_validate(given)


@lru_cache(256, typed=True)  # 1, 1.0 and true are not the same here
def _known_result(**given: Any) -> ResultInfo:
    return ResultInfo.model_validate(given)


def declared_members(entry: OperationType | None) -> frozenset[str]:
    """JSON names of the members that the type declares."""
    return entry.model.declared_members() if entry else frozenset()


def check_size(members: Json, errors: FieldErrors) -> bool:
    """Check how large and how deep a client's members are, all together. Returns whether they are within the limits.

    Adds an error when they are over a limit. The size is checked first: it costs least, and bounds what follows.
    """
    if not members:
        return True
    if len(json_codec.encode(members)) > MEMBERS_LIMIT:
        errors.add("", f"members may take at most {MEMBERS_LIMIT} bytes in all")
    elif json_codec.depth(members) - 1 > DEPTH_LIMIT:  # the object of all members does not count
        errors.add("", f"members may be nested at most {DEPTH_LIMIT} deep")
    else:
        return True
    return False
