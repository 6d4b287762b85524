"""The first records of an order that no index has: each record is put in its place as it comes."""

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.listing.conditions import Value
from tracker.listing.planner import SortKey, as_of, comparable, is_indexed, position


class Ranked(NamedTuple):
    """A record's place: the position as Python sorts it, the position, and the internal key."""

    sort_value: tuple[object, ...]
    position: tuple[Value | None, ...]
    key: str


class Ranking:
    """The first `most` records after a position, in their order. Only their places are kept.

    If no index has the order, the records are sorted by their state at one moment. So an operation that starts or ends
    between two pages is neither skipped nor repeated.

    Plain code would keep all records, and sort them in the end. That holds the event loop for as long as it takes to
    sort 10,000 records, and needs the memory for them.
    """

    def __init__(self, order: Sequence[SortKey], *, after: Sequence[Value | None], moment: Micros, most: int) -> None:
        self._order, self._most = order, most
        self.moment = moment
        self._after = comparable(order, after) if after else None
        self.places: list[Ranked] = []

    def add(self, record: Record) -> None:
        """Put a record in its place, if it is one of the first."""
        state = record if is_indexed(self._order) else as_of(record, self.moment)
        if state is None:
            return
        values = position(self._order, state)
        place = Ranked(comparable(self._order, values), values, record.key)
        if self._after is not None and not place.sort_value > self._after:
            return
        if len(self.places) == self._most:
            if not place.sort_value < self.places[-1].sort_value:
                return
            self.places.pop()
        insort(self.places, place, key=lambda one: one.sort_value)
