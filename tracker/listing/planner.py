"""Plans of lists: which indexes give the candidates, which condition is left to test, and in which order they come.

A condition consists of terms that `and` joins. An index answers a term that tests the status only, that asks for client
contexts or ids, or that bounds the time of creation. All other terms are tested on the records of the candidates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import total_ordering
from math import ceil, floor
from typing import Final, TypeVar

from tracker.domain.operation import Micros, OperationStatus
from tracker.domain.record import Record
from tracker.listing.conditions import (
    MEMBERS,
    STATUSES,
    And,
    Comparison,
    Condition,
    Found,
    Membership,
    Not,
    Operator,
    Or,
    TypeOf,
    Value,
    ValueKind,
    compiled,
)

CONTEXTS_AT_ONCE: Final = 16
"""How many client contexts a plan reads by their indexes at most."""

Item = TypeVar("Item", bound=str)

_PROBE: Final = Record("", "", "", "", "", "", policy=None)  # type: ignore[arg-type] # only its status is read


@dataclass(frozen=True, slots=True)
class Plan:
    """How to find the operations that satisfy a condition.

    * `statuses`, `contexts`, `ids`: the values whose indexes have the candidates; None when that index does not help.
    * `first`, `last`: bounds of the time of creation, both included.
    * `rest`: the part of the condition that the indexes do not answer. `satisfies`: a test for the whole condition.
    * `tests`: how many terms `satisfies` tests at most.
    """

    statuses: tuple[OperationStatus, ...] | None = None
    contexts: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    first: Micros | None = None
    last: Micros | None = None
    rest: Condition | None = None
    satisfies: Callable[[Record], bool | None] = lambda _: True
    tests: int = 0

    @property
    def nothing(self) -> bool:
        """Whether no operation can satisfy the condition."""
        return () in {self.statuses, self.contexts, self.ids}


def plan(condition: Condition | None) -> Plan:
    """The plan for a condition. None is a condition that all operations satisfy."""
    if condition is None:
        return Plan()
    found, rest = Plan(satisfies=compiled(condition), tests=sum(1 for _ in _members(condition))), []
    for term in _terms(condition):
        narrowed = _narrowed(found, term)
        if narrowed is None:
            rest.append(term)
        else:
            found = narrowed
    return replace(found, rest=And(tuple(rest)) if len(rest) > 1 else rest[0] if rest else None)


def _terms(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, And):
        for term in condition.terms:
            yield from _terms(term)
    else:
        yield condition


def _narrowed(known: Plan, term: Condition) -> Plan | None:
    """The plan with one more term answered by an index. None when no index answers the term."""
    members = frozenset(_members(term))
    if members == {"status"}:
        test = compiled(term)
        fitting = [status for status in STATUSES if test(_PROBE._replace(status=status))]
        return replace(known, statuses=_common(known.statuses, fitting))
    if members == {"createdDateTime"} and isinstance(term, Comparison):
        return _bounded(known, term)
    if len(members) == 1 and members <= {"clientContext", "id"}:
        texts = _equals(term)
        if texts is not None and members == {"id"}:
            return replace(known, ids=_common(known.ids, texts))
        if texts is not None and len(texts) <= CONTEXTS_AT_ONCE:
            return replace(known, contexts=_common(known.contexts, texts))
    return None


def _members(condition: Condition) -> Iterator[str]:
    """The members that a condition names."""
    match condition:
        case And(terms) | Or(terms):
            for term in terms:
                yield from _members(term)
        case Not(term):
            yield from _members(term)
        case Found() | TypeOf():
            yield type(condition).__name__
        case _:
            yield condition.member


def _equals(condition: Condition) -> list[str] | None:
    """The texts of a condition that says only which texts a member may equal. None for any other condition."""
    match condition:
        case Comparison(_, Operator.EQ, str(text)):
            return [text]
        case Membership(_, values) if None not in values:
            return [str(value) for value in values]
        case Or(terms):
            parts = [_equals(term) for term in terms]
            return None if None in parts else [text for part in parts if part is not None for text in part]
        case _:
            return None


def _common(known: Sequence[Item] | None, more: Iterable[Item]) -> tuple[Item, ...]:
    allowed = None if known is None else frozenset(known)
    return tuple(dict.fromkeys(item for item in more if allowed is None or item in allowed))


def _bounded(known: Plan, comparison: Comparison) -> Plan | None:
    value, operator = comparison.value, comparison.operator
    if not isinstance(value, int | float) or operator is Operator.NE:
        return None
    first, last = known.first, known.last
    if operator in {Operator.GT, Operator.GE, Operator.EQ}:
        lowest = floor(value) + 1 if operator is Operator.GT else ceil(value)
        first = lowest if first is None else max(first, lowest)
    if operator in {Operator.LT, Operator.LE, Operator.EQ}:
        highest = ceil(value) - 1 if operator is Operator.LT else floor(value)
        last = highest if last is None else min(last, highest)
    return replace(known, first=first, last=last)


@dataclass(frozen=True, slots=True)
class SortKey:
    """A sort key: a member, and whether its greatest values come first. Null is less than every value."""

    member: str
    descending: bool = False


NEWEST_FIRST: Final = (SortKey("createdDateTime", descending=True),)


def complete(keys: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """The order made total: `id` is added at its end.

    Keys after `createdDateTime` or `id` are left out, because no two operations of a call share their values.
    """
    whole: list[SortKey] = []
    for key in keys:
        if key.member in {known.member for known in whole}:
            continue
        whole.append(key)
        if key.member in {"createdDateTime", "id"}:
            return tuple(whole)
    return (*whole, SortKey("id")) if whole else NEWEST_FIRST


def is_indexed(order: Sequence[SortKey]) -> bool:
    """Whether an index has this order: that of creation."""
    return order[0].member == "createdDateTime"


def position(order: Sequence[SortKey], record: Record) -> tuple[Value | None, ...]:
    """The position of a record in an order: its value of each sort key."""
    return tuple(MEMBERS[key.member].read(record) for key in order)


def comparable(order: Sequence[SortKey], values: Sequence[Value | None]) -> tuple[object, ...]:
    """A position as a value that Python sorts in that order."""
    return tuple(_part(key, value) for key, value in zip(order, values, strict=True))


def _part(key: SortKey, value: Value | None) -> tuple[object, ...]:
    """A value as Python sorts it. The first part sorts null before all values, or behind them when descending."""
    if value is None:
        return (key.descending,)
    if not key.descending:
        return (True, value)
    return (False, _Descending(value) if MEMBERS[key.member].kind is ValueKind.TEXT else -value)  # type: ignore[operator]


@total_ordering
@dataclass(frozen=True, slots=True)
class _Descending:
    """A text that sorts in descending order."""

    text: Value

    def __lt__(self, other: "_Descending") -> bool:
        return str(self.text) > str(other.text)


def as_of(record: Record, moment: Micros) -> Record | None:
    """The record as it was at a moment, as far as sorting goes. None when it was created later.

    So the pages of one list agree while operations start and end. `lastActionDateTime`, `resultInfo` and
    `clientContext` are as they are now, because the record does not hold their earlier values.
    """
    if record.changed <= moment:
        return record
    if record.created > moment:
        return None
    begun = record.started if record.started <= moment else 0
    ended = bool(record.completed) and record.completed <= moment
    unended = OperationStatus.RUNNING if begun else OperationStatus.NOT_STARTED
    return record._replace(
        status=record.status if ended else unended,
        started=begun,
        completed=record.completed if ended else 0,
        expires=record.expires if ended else 0,
        cancel_requested=record.cancel_requested if record.cancel_requested <= moment else 0,
    )
