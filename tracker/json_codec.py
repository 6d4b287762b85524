"""JSON encoders and a decoder: for clients, between processes, and as it is stored."""

import json
from typing import Any, Final

import orjson

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII: Final = json.JSONEncoder(separators=(",", ":"))
_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder()
_CONTAINERS: Final = frozenset({dict, list})
"""The types that a decoder makes of objects and arrays, and never a subclass of them."""


def encode(value: Any) -> bytes:
    """Write a value compactly, in UTF-8.

    A lone surrogate, which UTF-8 cannot hold, becomes "?". Raises TypeError for a value that JSON cannot hold.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson refuses a lone surrogate and an integer of more than 64 bits
        return _ENCODER.encode(value).encode("utf-8", "replace")


def encode_text(value: Any) -> str:
    """Write a value compactly. `decode` reads the same value again, also a lone surrogate. Raises TypeError."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _ASCII.encode(value)


def canonical(value: Any) -> bytes:
    """Write a value with sorted members: values that differ in their order alone have one form. Raises TypeError."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _SORTED.encode(value).encode()


def decode(text: str) -> Any:
    """Read a value that `encode_text` wrote, without space before it. Raises ValueError.

    Plain code is `json.loads`, which looks for space before and after the value and takes twice the time for the small
    values that records hold.
    """
    value, _ = _DECODER.raw_decode(text)
    return value


def depth(value: Any) -> int:
    """How deep objects and arrays are nested in a decoded value, counted without recursion; 0 if it is neither."""
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
