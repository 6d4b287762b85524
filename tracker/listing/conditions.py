"""Conditions on operations, as a tree, and the tests that they compile to.

A test gives true, false or null for a record, by OData's rules for null (4.01, part 2, 5.1.1.1): null equals only null,
`lt` and the like with null are false, a function of null is null, and `and`, `or` and `not` have three values. A list
has the operations for which the test is true.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record

Value = str | int | float
"""A value of a member: a text, a status, microseconds or a number.

A time between two whole microseconds is the half between them. Stored times are whole, so the half compares as the
exact time would.
"""


class ValueKind(Enum):
    """The kind of a member's values, as error messages name it."""

    TEXT = "a string"
    STATUS = "an operationStatus"
    TIME = "a date-time such as 2026-01-31T12:00:00Z"
    NUMBER = "a whole number"


@dataclass(frozen=True, slots=True)
class Member:
    """A member that conditions and orders may name. `read` gives its value in a record; None is null."""

    kind: ValueKind
    read: Callable[[Record], Value | None]


STATUSES: Final = tuple(OperationStatus)
"""All statuses, in the order of their numbers in Graph's metadata. OData compares statuses by these numbers."""
RANKS: Final[Mapping[str, int]] = MappingProxyType({status: rank for rank, status in enumerate(STATUSES)})

MEMBERS: Final[Mapping[str, Member]] = MappingProxyType(
    {
        "id": Member(ValueKind.TEXT, lambda record: record.id),
        "status": Member(ValueKind.STATUS, lambda record: RANKS[record.status]),
        "clientContext": Member(ValueKind.TEXT, lambda record: record.client_context),
        "createdDateTime": Member(ValueKind.TIME, lambda record: record.created),
        "notBeforeDateTime": Member(ValueKind.TIME, lambda record: record.not_before or None),
        "startedDateTime": Member(ValueKind.TIME, lambda record: record.started or None),
        "completedDateTime": Member(ValueKind.TIME, lambda record: record.completed or None),
        "lastActionDateTime": Member(ValueKind.TIME, lambda record: record.changed),
        "expirationDateTime": Member(ValueKind.TIME, lambda record: record.expires or None),
        "cancelRequestedDateTime": Member(ValueKind.TIME, lambda record: record.cancel_requested or None),
        "resultInfo/code": Member(
            ValueKind.NUMBER, lambda record: None if record.result_info is None else record.result_info.code
        ),
        "resultInfo/subcode": Member(
            ValueKind.NUMBER, lambda record: None if record.result_info is None else record.result_info.subcode
        ),
    }
)
INDEXED: Final = "status, clientContext, createdDateTime and id"
BASES: Final = frozenset({"microsoft.graph.commsoperation", "microsoft.graph.entity"})
"""Types that every operation has, whatever its own type is."""


class Operator(StrEnum):
    """Comparison operators."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GE = "ge"
    LT = "lt"
    LE = "le"


class Function(StrEnum):
    """Functions of a text member and a text."""

    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    CONTAINS = "contains"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`member operator value`."""

    member: str
    operator: Operator
    value: Value | None


@dataclass(frozen=True, slots=True)
class Membership:
    """`member in (value, …)`."""

    member: str
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """`function(member,text)`."""

    function: Function
    member: str
    text: str | None


@dataclass(frozen=True, slots=True)
class TypeOf:
    """`isof('type')`; case and a leading `#` do not count."""

    type: str


@dataclass(frozen=True, slots=True)
class Found:
    """A word or phrase is in clientContext or statusDetail. Case does not count."""

    text: str


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more conditions."""

    terms: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more conditions."""

    terms: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a condition."""

    term: "Condition"


Condition = Comparison | Membership | Match | TypeOf | Found | And | Or | Not
Test = Callable[[Record], bool | None]

_COMPARE: Final[Mapping[Operator, Callable[[Value, Value], bool]]] = {
    Operator.EQ: lambda left, right: left == right,
    Operator.NE: lambda left, right: left != right,
    Operator.GT: lambda left, right: left > right,  # type: ignore[operator] # both are of the member's kind
    Operator.GE: lambda left, right: left >= right,  # type: ignore[operator]
    Operator.LT: lambda left, right: left < right,  # type: ignore[operator]
    Operator.LE: lambda left, right: left <= right,  # type: ignore[operator]
}
_MATCH: Final[Mapping[Function, Callable[[str, str], bool]]] = {
    Function.STARTSWITH: str.startswith,
    Function.ENDSWITH: str.endswith,
    Function.CONTAINS: str.__contains__,
}


def compiled(condition: Condition) -> Test:
    """The test of a condition: a function that gives true, false or null (None) for a record."""
    test: Test
    match condition:
        case Comparison(member, operator, value):
            test = _comparison(MEMBERS[member].read, operator, ranked(value))
        case Membership(member, values):
            test = _membership(MEMBERS[member].read, frozenset(ranked(value) for value in values))
        case Match(function, member, text):
            test = _match(MEMBERS[member].read, _MATCH[function], text)
        case TypeOf(name):
            test = _type(_bare(name))
        case Found(text):
            test = _search(text.casefold())
        case Not(term):
            test = _negation(compiled(term))
        case And(terms):
            test = _all_of([compiled(term) for term in terms], decisive=False)
        case Or(terms):
            test = _all_of([compiled(term) for term in terms], decisive=True)
    return test


def ranked(value: Value | None) -> Value | None:
    """A value as `Member.read` gives it: a status is its rank."""
    return RANKS[value] if isinstance(value, OperationStatus) else value


def _comparison(read: Callable[[Record], Value | None], operator: Operator, value: Value | None) -> Test:
    if operator is Operator.EQ:
        return lambda record: read(record) == value
    if operator is Operator.NE:
        return lambda record: read(record) != value
    if value is None:
        return lambda _: False
    compare, known = _COMPARE[operator], value
    return lambda record: (found := read(record)) is not None and compare(found, known)


def _match(read: Callable[[Record], Value | None], holds: Callable[[str, str], bool], text: str | None) -> Test:
    def test(record: Record) -> bool | None:
        found = read(record)
        return None if text is None or found is None else holds(str(found), text)

    return test


def _membership(read: Callable[[Record], Value | None], values: frozenset[Value | None]) -> Test:
    return lambda record: read(record) in values


def _type(name: str) -> Test:
    return lambda record: name in BASES or _bare(record.type) == name


def _search(text: str) -> Test:
    def test(record: Record) -> bool:
        client_context, detail = _searched(record.client_context, record.detail)
        return text in client_context or text in detail

    return test


@lru_cache(maxsize=1)
def _searched(client_context: str | None, detail: str) -> tuple[str, str]:
    """The texts of a record in which words are looked for. The words of one search share the texts of a record."""
    return (client_context or "").casefold(), detail.casefold()


def _negation(test: Test) -> Test:
    return lambda record: None if (answer := test(record)) is None else not answer


def _all_of(tests: list[Test], *, decisive: bool) -> Test:
    """The test of `and`, which a False decides, or of `or`, which a True decides.

    It gives null when no term decides and one is null.
    """

    def test(record: Record) -> bool | None:
        result: bool | None = not decisive
        for term_test in tests:
            answer = term_test(record)
            if answer is decisive:
                return decisive
            if answer is None:
                result = None
        return result

    return test


def _bare(type_name: str) -> str:
    return type_name.removeprefix("#").lower()
