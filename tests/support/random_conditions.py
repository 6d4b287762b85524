"""Random conditions and records, and an independent evaluation of a condition on what clients see of a record."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.support.records import make_record
from tracker.api.serializers import resource
from tracker.domain.operation import OperationStatus, ResultInfo
from tracker.domain.record import Record
from tracker.listing.conditions import (
    MEMBERS,
    STATUSES,
    And,
    Comparison,
    Condition,
    Function,
    Match,
    Membership,
    Not,
    Operator,
    Or,
    TypeOf,
    Value,
    ValueKind,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = ["", "a", "A", "ab", "b'c", "'", "ä", "a and b"]
TYPES = ["#microsoft.graph.commsOperation", "#contoso.other"]
TIMES = [0, 1, 1_000_000, 1_790_000_000_123_456, 1_790_000_000_123_457]

times = st.sampled_from([0.5, 1_000_000.5, *TIMES]) | st.integers(0, 2**52)
values = {
    ValueKind.TEXT: st.sampled_from(TEXTS) | st.text(max_size=5),
    ValueKind.STATUS: st.sampled_from(STATUSES),
    ValueKind.TIME: times,
    ValueKind.NUMBER: st.sampled_from([0, 200, 499, -1]) | st.integers(-(2**31), 2**31 - 1),
}
members = st.sampled_from(sorted(MEMBERS))
texts = st.sampled_from([name for name, member in MEMBERS.items() if member.kind is ValueKind.TEXT])


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    member = draw(members)
    value = draw(st.none() | values[MEMBERS[member].kind])
    return Comparison(member, draw(st.sampled_from(Operator)), value)


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    member = draw(members)
    of = st.lists(st.none() | values[MEMBERS[member].kind], min_size=1, max_size=3)
    return Membership(member, tuple(draw(of)))


matches = st.builds(Match, st.sampled_from(Function), texts, st.none() | values[ValueKind.TEXT])
types = st.builds(TypeOf, st.sampled_from([*TYPES, "Contoso.OTHER", "microsoft.graph.entity", "x.y"]))
leaves: st.SearchStrategy[Condition] = comparisons() | memberships() | matches | types


def _joined(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.builds(And, several) | st.builds(Or, several) | st.builds(Not, inner)


conditions: st.SearchStrategy[Condition] = st.recursive(leaves, _joined, max_leaves=8)

stamps = st.sampled_from(TIMES)


@st.composite
def records(draw: st.DrawFn) -> Record:
    numbers = values[ValueKind.NUMBER]
    results = st.builds(lambda code, subcode: ResultInfo(code=code, subcode=subcode), numbers, numbers)
    return make_record(
        id=draw(st.sampled_from(["a", "b", "ab"])),
        type=draw(st.sampled_from(TYPES)),
        client_context=draw(st.none() | st.sampled_from(TEXTS)),
        status=draw(st.sampled_from(OperationStatus)),
        result_info=draw(st.none() | results),
        created=draw(stamps),
        changed=draw(stamps),
        **{name: draw(stamps) for name in ("not_before", "started", "completed", "expires", "cancel_requested")},
    )


def holds(condition: Condition, record: Record) -> bool:
    """Whether a condition is true of a record, by tables rather than by the code under test."""
    return _value_of(condition, resource(record)) is True


def _value_of(condition: Condition, body: dict[str, Any]) -> bool | None:  # noqa: PLR0911 - a line for each kind
    match condition:
        case And(terms):
            answers = [_value_of(term, body) for term in terms]
            return False if False in answers else None if None in answers else True
        case Or(terms):
            answers = [_value_of(term, body) for term in terms]
            return True if True in answers else None if None in answers else False
        case Not(term):
            return {True: False, False: True, None: None}[_value_of(term, body)]
        case TypeOf(name):
            bare = name.lower().removeprefix("#")
            base = bare in {"microsoft.graph.commsoperation", "microsoft.graph.entity"}
            return base or body["@odata.type"].lower() == f"#{bare}"
        case Membership(member, values):
            return any(_compared(_found(body, member), Operator.EQ, _wanted(value)) for value in values)
        case Comparison(member, operator, value):
            return _compared(_found(body, member), operator, _wanted(value))
        case Match(function, member, text):
            found = _found(body, member)
            if found is None or text is None:
                return None
            places = {"startswith": found[: len(text)], "endswith": found[len(found) - len(text) :]}
            if len(text) > len(found):
                return False
            return text in found if function == "contains" else places[function] == text
        case _:
            raise AssertionError(condition)


def _compared(found: Any, operator: Operator, wanted: Any) -> bool:
    if found is None or wanted is None:
        same = found is None and wanted is None
        return {"eq": same, "ne": not same}.get(operator, False)
    less, same = bool(found < wanted), bool(found == wanted)
    answers = {"eq": same, "ne": not same, "lt": less, "le": less or same, "gt": not less and not same}
    return answers.get(operator, not less)


def _found(body: dict[str, Any], path: str) -> Any:
    value: Any = body
    for name in path.split("/"):
        value = None if value is None else value.get(name)
    if path.endswith("DateTime") and value is not None:
        return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)
    return list(OperationStatus).index(value) if path == "status" else value


def _wanted(value: Value | None) -> Any:
    return list(OperationStatus).index(value) if isinstance(value, OperationStatus) else value
