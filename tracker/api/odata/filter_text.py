"""Conditions as the text of `$filter` (OData 4.01, part 2, 5.1)."""

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
    """The condition as a `$filter`. `search(…)` stands for a term that only `$search` can have."""
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
        case Match(function, member, looked_for):
            text = f"{function}({member},{literal(ValueKind.TEXT, looked_for)})"
        case TypeOf(name):
            text = f"isof({literal(ValueKind.TEXT, name)})"
        case Found(phrase):
            text = f"search({literal(ValueKind.TEXT, phrase)})"
    return text


def _enclosed(term: Condition) -> str:
    return f"({filter_text(term)})" if isinstance(term, And | Or | Not) else filter_text(term)


def literal(kind: ValueKind, value: Value | None) -> str:
    """A value as OData writes it."""
    if value is None:
        return "null"
    if kind is ValueKind.TIME:
        return _time(float(value) if isinstance(value, float) else int(value))
    return str(value) if kind is ValueKind.NUMBER else "'{}'".format(str(value).replace("'", "''"))


def _time(stamp: Micros | float) -> str:
    whole = int(stamp // 1)
    try:
        text = (datetime(1970, 1, 1) + timedelta(microseconds=whole)).isoformat(timespec="microseconds")  # noqa: DTZ001 - the Z is filter_text by hand
    except OverflowError:  # before year 1 or after 9999 in UTC, though not where it was filter_text
        return str(stamp)
    return f"{text}Z" if stamp == whole else f"{text}5Z"
