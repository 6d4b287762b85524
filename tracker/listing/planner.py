"""How a query is answered: which indexes give candidates, what is left to be asked of each, and in which order.

Indexes serve what is joined with `and`: conditions on the status alone, equality with client contexts or ids, and
bounds of the creation. Everything else is asked of the candidates' records.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, total_ordering
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
"""Most client contexts whose indexes are read side by side."""

Item = TypeVar("Item", bound=str)

_PROBE: Final = Record("", "", "", "", "", "", policy=None)  # type: ignore[arg-type] # only its status is read


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the operations that satisfy a condition are. None: the index does not narrow anything.

    `first` and `last` bound the creation, both included. `rest` is what the indexes do not answer, and `satisfies` the
    whole condition.
    """

    statuses: tuple[OperationStatus, ...] | None = None
    contexts: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    first: Micros | None = None
    last: Micros | None = None
    rest: Condition | None = None
    satisfies: Callable[[Record], bool | None] = lambda _: True

    @property
    def nothing(self) -> bool:
        """Whether no operation can satisfy it."""
        return () in {self.statuses, self.contexts, self.ids}


@lru_cache(128)
def plan(condition: Condition | None) -> Plan:
    """How to find what satisfies a condition; None is satisfied by all."""
    if condition is None:
        return Plan()
    found, rest = Plan(satisfies=compiled(condition)), []
    for term in _conjuncts(condition):
        narrowed = _narrowed(found, term)
        if narrowed is None:
            rest.append(term)
        else:
            found = narrowed
    return replace(found, rest=And(tuple(rest)) if len(rest) > 1 else rest[0] if rest else None)


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, And):
        for term in condition.terms:
            yield from _conjuncts(term)
    else:
        yield condition


def _narrowed(known: Plan, term: Condition) -> Plan | None:
    """The plan with one more condition answered by an index; None when none answers it."""
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
    """The texts of which one is to be equalled; None when the condition says anything else."""
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
    """One part of an order: a member, and whether its greatest come first. Nulls are the least."""

    member: str
    descending: bool = False


NEWEST_FIRST: Final = (SortKey("createdDateTime", descending=True),)


def complete(keys: Sequence[SortKey]) -> tuple[SortKey, ...]:
    """The order with what makes it total: `id` at its end, nothing after a member that no two operations share."""
    whole: list[SortKey] = []
    for key in keys:
        if key.member in {known.member for known in whole}:
            continue
        whole.append(key)
        if key.member in {"createdDateTime", "id"}:
            return tuple(whole)
    return (*whole, SortKey("id")) if whole else NEWEST_FIRST


def is_indexed(order: Sequence[SortKey]) -> bool:
    """Whether an index has this order."""
    return order[0].member == "createdDateTime"


def place(order: Sequence[SortKey], record: Record) -> tuple[Value | None, ...]:
    """Where a record stands in an order: its value of each key."""
    return tuple(MEMBERS[key.member].read(record) for key in order)


def comparable(order: Sequence[SortKey], values: Sequence[Value | None]) -> tuple[object, ...]:
    """A place as something that sorts in that order."""
    return tuple(_part(key, value) for key, value in zip(order, values, strict=True))


def _part(key: SortKey, value: Value | None) -> tuple[object, ...]:
    if value is None:
        return (key.descending,)
    if not key.descending:
        return (True, value)
    return (False, _Falling(value) if MEMBERS[key.member].kind is ValueKind.TEXT else -value)  # type: ignore[operator]


@total_ordering
@dataclass(frozen=True, slots=True)
class _Falling:
    """A text that sorts the other way round."""

    text: Value

    def __lt__(self, other: "_Falling") -> bool:
        return str(self.text) > str(other.text)


def as_of(record: Record, moment: Micros) -> Record | None:
    """The record as an order saw it at a moment: None when it was created later.

    This keeps an order's pages in step while operations start and end. What cannot be told from the record
    (lastActionDateTime, resultInfo and clientContext before a later change) is as it is now.
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
