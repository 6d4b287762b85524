"""Tokens of `$skiptoken`: the position at which a list's next page starts, with a digest of the list's options."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from tracker.api.odata.filter_text import filter_text
from tracker.errors import Invalid
from tracker.listing.conditions import MEMBERS, ValueKind
from tracker.listing.planner import SortKey
from tracker.listing.query import Cursor, ListQuery

_DIGEST_LENGTH: Final = 16
_LARGEST: Final = 2**53
"""Greater than every time and number in a record. Scores in Redis are exact up to this number."""


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
    raise Invalid("$skiptoken does not belong to this list: use @odata.nextLink as it is.", target="$skiptoken")


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
