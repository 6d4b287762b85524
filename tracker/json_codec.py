"""JSON encoders and a decoder for HTTP responses, for messages between processes, and for stored data."""

import json
from typing import Any, Final

import orjson

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII: Final = json.JSONEncoder(separators=(",", ":"))
_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder()
_CONTAINERS: Final = frozenset({dict, list})
"""The types of decoded objects and arrays. Decoders return no subclasses, so their exact type is compared."""


def encode(value: Any) -> bytes:
    """Write a value compactly, in UTF-8.

    A lone surrogate, which UTF-8 cannot hold, becomes "?". Raises TypeError for a value that JSON cannot hold.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson refuses a lone surrogate and an integer of more than 64 bits
        return _ENCODER.encode(value).encode("utf-8", "replace")


def encode_text(value: Any) -> str:
    """Write a value compactly. `decode` returns the same value, also for a lone surrogate.

    Raises TypeError for a value that JSON cannot hold.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _ASCII.encode(value)


def encode_sorted(value: Any) -> bytes:
    """Write a value with the members of each object sorted by name.

    Values that differ only in the order of members give the same bytes. Raises TypeError for a value that JSON cannot
    hold.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _SORTED.encode(value).encode()


def decode(text: str) -> Any:
    """Read a value that `encode_text` wrote. Raises ValueError, also for a text that begins with white space.

    Plain code would be `json.loads`. It also looks for white space around the value, and takes twice as long for the
    small values in records.
    """
    value, _ = _DECODER.raw_decode(text)
    return value


def depth(value: Any) -> int:
    """The nesting depth of a decoded value: 0 for a scalar, 1 for an object or array of scalars.

    Counted without recursion, because clients choose the depth.
    """
    deepest, level = 0, [value] if type(value) in _CONTAINERS else []
    while level:
        deepest += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if type(inner) in _CONTAINERS
        ]
    return deepest
