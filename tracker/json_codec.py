"""JSON that we write: for clients, between processes, and as it is stored."""

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
    """Write a value, compact and in UTF-8. A lone surrogate in a handler's message becomes "?", never a failure.

    Raises TypeError for what is no JSON.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # what orjson has no form for: such a surrogate, or an integer of over 64 bits
        return _ENCODER.encode(value).encode("utf-8", "replace")


def encode_text(value: Any) -> str:
    """Write a value, compact, so that `decode` reads the same: a lone surrogate too. Raises TypeError as `encode`."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _ASCII.encode(value)


def canonical(value: Any) -> bytes:
    """Write a value as every other one that differs in the order of members only. Raises TypeError as `encode` does."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _SORTED.encode(value).encode()


def decode(text: str) -> Any:
    """Read a value of ours: no space is before it, and nothing that counts after it. Raises ValueError.

    `json.loads` looks for both, and takes twice the time.
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
