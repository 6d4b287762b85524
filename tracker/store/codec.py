"""Encoding and decoding of records as Redis hashes of strings.

Fields with their default values are left out. Decoding fills an array by position and makes the record from it.
Plain code is a dict of the decoded fields and `Record(**fields)`, which takes half as long again (benchmarks.api: list
of 100).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from os import urandom
from typing import Any

from tracker import json_codec
from tracker.domain.operation import Json, OperationStatus, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage
from tracker.store.keys import type_digest

_TEXTS = (
    *("key", "tenant", "call_id", "id", "type", "digest", "detail", "worker", "cancel_reason", "cancel_by", "blocker"),
    "client_context",
)
_NUMBERS = (
    *("attempt", "charged", "ticket", "vanished", "revision", "percent", "not_before", "start_by"),
    *("created", "started", "began", "completed", "changed", "expires", "cancel_requested"),
    *("suspected", "lost_workers", "alone"),
)
_FLAGS = ("canceled", "hidden", "rq")
_DEFAULT = Policy()
_REMOVE = "forget"
"""The field of a change whose value names a field that `change.lua` removes from the record."""
_POLICY_NAMES = tuple(item.name for item in fields(Policy))
_POLICY_VALUES = attrgetter(*_POLICY_NAMES)
_DEFAULT_VALUES = _POLICY_VALUES(_DEFAULT)
_PLACES = {name: place for place, name in enumerate(Record._fields)}


def encode(record: Record) -> list[str]:
    """The fields that a new record does not share with others: field, value, field, value, and so on.

    The script that stores the record adds its key and digest. An id that is the key as a UUID is left out.
    """
    words: list[str] = []
    if record.id != as_uuid(record.key):
        words += "id", record.id
    if record.client_context is not None:
        words += "client_context", record.client_context
    if record.members:
        words += "members", _encode_value(record.members)
    if record.result_info is not None:
        words += "result_info", _encode_value(record.result_info)
    return words


def encode_shared(record: Record) -> list[str]:
    """The fields that new records of one type and call have in common: field, value, and so on."""
    words = ["tenant", record.tenant, "call_id", record.call_id, "type", record.type]
    for pair in _encode_policy(record).items():
        words += pair
    return words


def encode_fields(changed: Mapping[str, Any]) -> dict[str, str]:
    """The stored form of the fields that a change writes. An empty value is stored as an empty text.

    A client context that is removed is deleted instead, because an empty text is a client context.
    """
    stored = {name: _encode_value(value) for name, value in changed.items()}
    if changed.get("client_context", "") is None:
        del stored["client_context"]
        stored[_REMOVE] = "client_context"
    return stored


def with_added_fields(record: Record, added: str) -> Record:
    """A new record with the fields that the script added: field, value and so on, separated by spaces."""
    values = list(record)
    values[_NOT_BEFORE] = 0  # the script adds the real time, if there is one
    words = iter(added.split(" "))
    for name, text in zip(words, words, strict=True):
        place, read = _READINGS[name]
        values[place] = read(text)
    return Record._make(values)


def as_hash(reply: Sequence[str]) -> dict[str, str]:
    """A dict from the reply of HGETALL inside a script. The last value of a field counts."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def decode_hash(stored: Mapping[str, str]) -> Record:
    """Decode a record from its hash.

    Raises ValueError, KeyError, TypeError, AttributeError or RecursionError when the record is damaged or its form is
    unknown. What it returns can be shown to clients.
    """
    values = list(_BLANK)
    for name, text in stored.items():
        if (place := _TEXT_PLACES.get(name)) is not None:
            values[place] = text
        elif text and (reading := _READINGS.get(name)) is not None:
            place, read = reading
            values[place] = read(text)
    if values[_ID] is None:
        values[_ID] = as_uuid(values[_KEY])
    if None in values[:_OPTIONAL] or "stage" not in stored or "created" not in stored:
        raise ValueError("a field is missing that every record has")
    if max(values[_TIMES]) > _LATEST:
        raise ValueError("a time is later than any time")
    if not (text := "".join(stored.values())).isascii():
        text.encode()  # bytes that are no UTF-8 have become lone surrogates
    if results := values[_RESULTS]:
        values[_MEMBERS] = {**values[_MEMBERS], **results}
    return Record._make(values)


def _encode_value(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "1"
        case int() | str():
            return str(value)
        case ResultInfo():
            return _encode_result(value.code, value.subcode, value.message)
        case Mapping():
            return json_codec.encode_text(dict(value)) if value else ""
        case _:
            raise TypeError(f"{type(value).__name__} has no stored form")


@lru_cache(maxsize=256)
def _encode_result(code: int, subcode: int, message: str) -> str:
    """The stored form of a result. The cache saves 1 % of the instructions of benchmarks.api: $batch."""
    return json_codec.encode_text([code, subcode, message])


def _encode_policy(record: Record) -> dict[str, str]:
    """The stored fields of a policy: the members that differ from the defaults, and what scripts read often."""
    policy = record.policy
    values = _POLICY_VALUES(policy)
    if values == _DEFAULT_VALUES:
        return {}
    changed = {
        name: value
        for name, value, default in zip(_POLICY_NAMES, values, _DEFAULT_VALUES, strict=True)
        if value != default
    }
    if "canceled" in changed:
        changed["canceled"] = [policy.canceled.code, policy.canceled.subcode, policy.canceled.message]
    stored = {
        "policy": json_codec.encode_text(changed) if changed else "",
        "lane": "" if policy.priority == _DEFAULT.priority else policy.priority,
        "gate": type_digest(record.type) if policy.concurrency or policy.rate else "",
        "serial": "1" if policy.serial else "",
    }
    return {name: value for name, value in stored.items() if value}


@lru_cache(maxsize=1024)
def _decode_policy(text: str) -> Policy:
    """Decode a policy. Operations of one type share it."""
    stored = _decode_object(text)
    known = {name: stored[name] for name in _POLICY_NAMES if name in stored}
    if "canceled" in known:
        known["canceled"] = _checked_result(*known["canceled"])
    for name, value in known.items():
        default = getattr(_DEFAULT, name)
        if not isinstance(value, (int, float) if type(default) is float else type(default)):
            raise TypeError(f"the policy's {name} is of another type")
    return Policy(**known)


def _decode_object(text: str) -> Json:
    value = json_codec.decode(text)
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return value


@lru_cache(maxsize=256)
def _decode_result(text: str) -> ResultInfo:
    return _checked_result(*json_codec.decode(text))


def _checked_result(code: Any, subcode: Any, message: Any) -> ResultInfo:
    if not (isinstance(code, int) and isinstance(subcode, int) and isinstance(message, str)):
        raise TypeError("a part of the result is of another type")
    return result_of(code, subcode, message)


def decode_result(stored: Sequence[Any]) -> ResultInfo:
    """A result from its stored form, which was validated when it was made."""
    return result_of(*stored)


@lru_cache(maxsize=256)
def result_of(code: int, subcode: int, message: str) -> ResultInfo:
    """A result that needs no validation. Equal results are one shared object.

    Without the cache, a list costs 18 % more instructions of the server (benchmarks.api: list of 100).
    """
    return ResultInfo.model_construct(code=code, subcode=subcode, message=message)


def new_key() -> str:
    """The 32 digits of a random UUID (RFC 9562, version 4).

    Plain code is `uuid.uuid4().hex`, which takes three times as long (benchmarks.api: $batch).
    """
    return uuid_digits(urandom(16))


def uuid_digits(random: bytes) -> str:
    """The digits of the version 4 UUID (RFC 9562, 5.4) of 16 random bytes."""
    octets = bytearray(random)
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    return octets.hex()


def as_uuid(key: str) -> str:
    """A UUID from its 32 digits: the public id that the service makes from a key."""
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


_READERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(_FLAGS, "1".__eq__),
    "members": _decode_object,
    "results": _decode_object,
    "result_info": _decode_result,
    "policy": _decode_policy,
    "status": {str(status): status for status in OperationStatus}.__getitem__,
    "stage": {str(stage): stage for stage in Stage}.__getitem__,
    "apart": {str(apart): apart for apart in Apart}.__getitem__,
}
"""Functions that decode a stored field that is not empty."""
_READINGS = {name: (_PLACES[name], read) for name, read in _READERS.items()}
_TEXT_PLACES = {name: _PLACES[name] for name in _TEXTS}
_OPTIONAL, _ID, _KEY, _MEMBERS, _RESULTS, _NOT_BEFORE = (
    _PLACES[name] for name in ("client_context", "id", "key", "members", "results", "not_before")
)
_TIMES = slice(_PLACES["created"], _PLACES["cancel_requested"] + 1)
"""The times of a record, which stand one after another."""
_LATEST = 253_402_300_799_999_999
"""The last microsecond of the year 9999, the latest time that clients can be shown (RFC 3339)."""
_BLANK: list[Any] = [Record._field_defaults.get(name) for name in Record._fields]
_BLANK[_PLACES["policy"]] = _DEFAULT
