"""Writer of conditions as the text of a `$filter` (OData 4.01, part 2, 5.1)."""

from datetime import datetime, timedelta

from tracker.domain.operation import Micros
from tracker.listing.conditions import (
    MEMBERS,
    And,
    Comparison,
    Condition,
    Found,
    Match,
    Membership,
    Not,
    Or,
    TypeOf,
    Value,
    ValueKind,
)


def filter_text(condition: Condition) -> str:
    """The condition as a `$filter`.

    A word of `$search` has no form in `$filter`. It is written as `search('…')`.
    """
    text: str
    match condition:
        case And(terms):
            text = " and ".join(map(_enclosed, terms))
        case Or(terms):
            text = " or ".join(map(_enclosed, terms))
        case Not(term):
            text = f"not {_enclosed(term)}"
        case Comparison(member, operator, value):
            text = f"{member} {operator} {literal(MEMBERS[member].kind, value)}"
        case Membership(member, values):
            kind = MEMBERS[member].kind
            text = f"{member} in ({','.join(literal(kind, value) for value in values)})"
        case Match(function, member, part):
            text = f"{function}({member},{literal(ValueKind.TEXT, part)})"
        case TypeOf(name):
            text = f"isof({literal(ValueKind.TEXT, name)})"
        case Found(phrase):
            text = f"search({literal(ValueKind.TEXT, phrase)})"
    return text


def _enclosed(term: Condition) -> str:
    return f"({filter_text(term)})" if isinstance(term, And | Or | Not) else filter_text(term)


def literal(kind: ValueKind, value: Value | None) -> str:
    """The literal of a value."""
    if value is None:
        return "null"
    if kind is ValueKind.TIME:
        return _time(float(value) if isinstance(value, float) else int(value))
    return str(value) if kind is ValueKind.NUMBER else "'{}'".format(str(value).replace("'", "''"))


def _time(micros: Micros | float) -> str:
    whole = int(micros // 1)
    try:
        text = (datetime(1970, 1, 1) + timedelta(microseconds=whole)).isoformat(timespec="microseconds")  # noqa: DTZ001 - the Z is added below
    except OverflowError:  # a time with an offset can be before year 1 or after year 9999 in UTC
        return str(micros)
    return f"{text}Z" if micros == whole else f"{text}5Z"
