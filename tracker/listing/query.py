"""Requests for lists: what is asked for, where a page starts, and what there is beside its records."""

from collections.abc import Callable
from dataclasses import dataclass

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.listing.conditions import Condition, Value
from tracker.listing.planner import NEWEST_FIRST, SortKey

Take = Callable[[Record], bool]
"""Takes the next record of a page. Returns False if the page is as large as it may be, and ends with this record."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page of a list starts.

    * `after`: the position of the last operation before that page: its value of each sort key.
    * `moment`: every page sorts the operations by their state at this time. 0 if an index has the order.
    * `skip`: how many matching operations are still to be left out.
    """

    after: tuple[Value | None, ...]
    moment: Micros = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A request for a list: at most `top` operations that satisfy `where`, sorted by `order`, from `cursor` on.

    The first `skip` operations are left out. `count`: whether to count all that match, too. `order` must be total: no
    two operations have the same position in it.
    """

    where: Condition | None = None
    order: tuple[SortKey, ...] = NEWEST_FIRST
    top: int = 100
    skip: int = 0
    count: bool = False
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page without its records: the place at which the next page starts, and how many operations match in all."""

    cursor: Cursor | None = None
    count: int | None = None
