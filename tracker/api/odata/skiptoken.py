"""Tokens of `$skiptoken`: the position at which a list's next page starts, with a digest of the list's options.

A compact token has all options of the next page, this position too. It stands in links that would be too long with the
options themselves.
"""

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from string import ascii_letters, digits
from typing import Any, Final

from tracker.api.odata.filter_text import filter_text
from tracker.domain.operation import CLIENT_CONTEXT_LIMIT
from tracker.errors import Invalid
from tracker.listing.conditions import MEMBERS, ValueKind
from tracker.listing.planner import SortKey
from tracker.listing.query import Cursor, ListQuery

_DIGEST_LENGTH: Final = 16
_LARGEST: Final = 2**53
"""Greater than every time and number in a record. Scores in Redis are exact up to this number."""
_COMPACT: Final = "~"
"""The first character of a compact token. No other token has it."""
_MOST_PAIRS: Final = 64
"""How many options a compact token has at most."""
_MOST_OPTIONS: Final = 64 * 1024
"""How many bytes the options in a compact token have at most, decompressed. Longer options do not come by HTTP."""
_RANDOM: Final = Random(1)  # noqa: S311 - it protects nothing
_LONGEST_TEXTS: Final = {
    "clientContext": "".join(chr(_RANDOM.randrange(0x10000, 0x110000)) for _ in range(CLIENT_CONTEXT_LIMIT)),
    "id": "".join(_RANDOM.choices(ascii_letters + digits, k=128)),
}
"""Texts that cannot be compressed, of the greatest length that a record can have."""

Pairs = Sequence[tuple[str, str]]


def write_skip_token(cursor: Cursor, call_id: str, query: ListQuery) -> str:
    """The token of the next page of a call's list."""
    position = json.dumps([list(cursor.after), cursor.moment, cursor.skip], separators=(",", ":"), ensure_ascii=False)
    token = f"{_digest(position, call_id, query)}{position}"
    return urlsafe_b64encode(token.encode()).decode().rstrip("=")


def read_skip_token(token: str, call_id: str, query: ListQuery) -> Cursor:
    """The cursor of a token. Raises Invalid unless the token was made for the same call, filter, search and order."""
    try:
        text = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        cursor = _cursor(json.loads(text[_DIGEST_LENGTH:]), query.order)
        if cursor is not None and write_skip_token(cursor, call_id, query) == token:
            return cursor
    except (ValueError, RecursionError):
        pass
    raise _not_of_this_list()


def longest_cursor(order: Sequence[SortKey]) -> Cursor:
    """A cursor whose position takes as much room in a compact token as any position of this order."""
    after = tuple(_LONGEST_TEXTS.get(key.member, _LARGEST - 1) for key in order)
    return Cursor(after, moment=_LARGEST - 1, skip=_LARGEST - 1)


def write_compact_token(pairs: Pairs) -> str:
    """The token that has these options, compressed."""
    options = json.dumps(pairs, separators=(",", ":"), ensure_ascii=False).encode()
    return _COMPACT + urlsafe_b64encode(zlib.compress(options, 9)).decode().rstrip("=")


def with_options_of_token(pairs: Pairs) -> Pairs:
    """The options of a request, with those in its compact token in place of the token.

    Raises Invalid for a token that `write_compact_token` cannot have made.
    """
    found: list[tuple[str, str]] = []
    tokens = 0
    for name, value in pairs:
        if value.startswith(_COMPACT) and name.removeprefix("$").lower() == "skiptoken":
            tokens += 1
            if tokens > 1:
                raise _not_of_this_list()
            found.extend(_read_compact_token(value))
        else:
            found.append((name, value))
    return found


def _read_compact_token(token: str) -> Pairs:
    try:
        compressed = urlsafe_b64decode(token[len(_COMPACT) :] + "=" * (-(len(token) - len(_COMPACT)) % 4))
        decompressor = zlib.decompressobj()
        options = decompressor.decompress(compressed, _MOST_OPTIONS)
        pairs = json.loads(options) if decompressor.eof and not decompressor.unused_data else None
        if isinstance(pairs, list) and len(pairs) <= _MOST_PAIRS:
            return [_as_text_pair(pair) for pair in pairs]
    except (ValueError, TypeError, RecursionError, zlib.error):
        pass
    raise _not_of_this_list()


def _as_text_pair(value: Any) -> tuple[str, str]:
    """The name and value of an option. Raises ValueError or TypeError for anything else, and for half a surrogate."""
    name, text = value
    if not (isinstance(name, str) and isinstance(text, str)):
        raise TypeError
    (name + text).encode()
    return name, text


def _not_of_this_list() -> Invalid:
    return Invalid("$skiptoken does not belong to this list: use @odata.nextLink as it is.", target="$skiptoken")


def _cursor(value: Any, order: Sequence[SortKey]) -> Cursor | None:
    """The cursor that a token's JSON value represents; None if the value represents no cursor.

    Every part is checked, because a client can compute the digest, and so can make any token.
    """
    match value:
        case [list(after), int(moment), int(skip)] if len(after) == len(order) and _are_counts(moment, skip):
            are_values = all(_is_value(part, key) for part, key in zip(after, order, strict=True))
            return Cursor(tuple(after), moment, skip) if are_values else None
        case _:
            return None


def _is_value(value: Any, key: SortKey) -> bool:
    if value is None:
        return key.member not in {"createdDateTime", "id"}
    if MEMBERS[key.member].kind is ValueKind.TEXT:
        return isinstance(value, str)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _are_counts(*numbers: int) -> bool:
    return all(not isinstance(number, bool) and 0 <= number < _LARGEST for number in numbers)


def _digest(position: str, call_id: str, query: ListQuery) -> str:
    where = "" if query.where is None else filter_text(query.where)
    order = [[key.member, key.descending] for key in query.order]
    return sha256(json.dumps([position, call_id, where, order]).encode()).hexdigest()[:_DIGEST_LENGTH]
