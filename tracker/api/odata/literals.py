"""Literals of `$filter`, converted to Python values of the kind that the compared member has."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from tracker.api.odata.tokens import Form, Token, malformed
from tracker.domain.operation import OperationStatus
from tracker.errors import NotSupported
from tracker.listing.conditions import MEMBERS, Value, ValueKind

FILTER: Final = "$filter"
ENUM_TYPE: Final = "microsoft.graph.operationstatus"
STATUSES: Final = MappingProxyType(
    {
        spelling: status
        for status in OperationStatus
        for spelling in (status.value, status.value[0].lower() + status.value[1:])
    }
)
"""Statuses by their two spellings in Graph: `NotStarted` and `notStarted`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIME: Final = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d)(?P<second>:\d\d)?(?:\.(?P<micros>\d{1,6})(?P<finer>\d{0,6}))?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)",
    re.IGNORECASE | re.ASCII,
)
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_FRACTION: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?[fdm]?", re.IGNORECASE)


def is_null(token: Token) -> bool:
    """Whether the token is the literal `null`."""
    return token.is_word("null")


def value_for(member: str, token: Token) -> Value | None:
    """The value of a literal that is compared with a member.

    Raises Invalid if the member has values of another kind.
    """
    if is_null(token):
        return None
    kind = MEMBERS[member].kind
    try:
        return _CONVERTERS[kind](token)
    except ValueError:
        what = f"{member} is compared with {kind.value}, not with {token.text!r}"
        raise malformed(FILTER, what, token.position) from None


def _text(token: Token) -> str:
    if token.form is not Form.STRING:
        raise ValueError
    return token.text


def _status(token: Token) -> OperationStatus:
    if token.form not in {Form.STRING, Form.TYPED} or token.type.lower() not in {"", ENUM_TYPE}:
        raise ValueError
    if token.text not in STATUSES:
        raise malformed(FILTER, f"{token.text!r} is not a member of operationStatus", token.position)
    return STATUSES[token.text]


def _time(token: Token) -> Value:
    """A time in microseconds.

    Half a microsecond is added for finer digits, so that no stored time equals the literal.
    """
    match = _TIME.fullmatch(token.text)
    if match is None or token.form is not Form.NUMBER:
        raise ValueError
    zone = match["zone"].upper().replace("Z", "+00:00")
    moment = datetime.fromisoformat(match["whole"] + (match["second"] or ":00") + zone)
    micros = (moment - _EPOCH) // _MICROSECOND + int((match["micros"] or "0").ljust(6, "0"))
    return micros + 0.5 if (match["finer"] or "").strip("0") else micros


def _number(token: Token) -> int:
    if token.form is not Form.NUMBER:
        raise ValueError
    if not _INTEGER.fullmatch(token.text):
        if _FRACTION.fullmatch(token.text):
            message = f"$filter: the number {token.text} (at position {token.position}) is not supported."
            raise NotSupported(message, target=FILTER)
        raise ValueError
    return int(token.text)


_CONVERTERS: Final[Mapping[ValueKind, Callable[[Token], Value]]] = {
    ValueKind.TEXT: _text,
    ValueKind.STATUS: _status,
    ValueKind.TIME: _time,
    ValueKind.NUMBER: _number,
}
