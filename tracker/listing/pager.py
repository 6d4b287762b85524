"""A call's operations: filtered, sorted and paged, through its indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.errors import Invalid
from tracker.listing.conditions import INDEXED, Condition, Value
from tracker.listing.index_reader import CHUNK, FIRST_CHUNK, IndexReader, Range
from tracker.listing.planner import NEWEST_FIRST, Plan, SortKey, as_of, comparable, is_indexed, place, plan
from tracker.store.store import Store

EXAMINE: Final = 10_000
"""Most operations that are looked at for one answer, where no index has it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page of a list starts: after the place of an operation in the list's order.

    `moment` is the time as of which the order is, where no index has it; `skip` is how many that would follow are
    still to be left out.
    """

    after: tuple[Value | None, ...]
    moment: Micros = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list shall hold: at most `top` operations of which `where` is true, in a total order, after `cursor`."""

    where: Condition | None = None
    order: tuple[SortKey, ...] = NEWEST_FIRST
    top: int = 100
    skip: int = 0
    count: bool = False
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. `cursor` is where the next part starts, `count` all that match, before paging."""

    records: Sequence[Record]
    cursor: Cursor | None = None
    count: int | None = None


class Pager:
    """Lists and counts. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: Store) -> None:
        self._reads = IndexReader(store)

    async def page(self, tenant: str, call_id: str, query: ListQuery) -> Page:
        """A part of a call's list; an unknown call's is empty.

        Where no index answers, at most EXAMINE operations are examined: a page in the order of creation then ends
        early, with a cursor; an order or a count that would need more raises Invalid.
        """
        asked = plan(query.where)
        if asked.nothing:
            return Page((), count=0 if query.count else None)
        counted = not query.count or _is_countable(asked)
        if asked.ids is not None or not counted or not is_indexed(query.order):
            return await self._sorted(tenant, call_id, query, asked)
        count = await self._reads.count(tenant, call_id, asked) if query.count else None
        return await self._walked(tenant, call_id, query, asked, count)

    async def count(self, tenant: str, call_id: str, where: Condition | None = None) -> int:
        """How many of a call's operations satisfy a condition. Raises Invalid when more than EXAMINE had to be read."""
        asked = plan(where)
        if asked.nothing:
            return 0
        if _is_countable(asked):
            return await self._reads.count(tenant, call_id, asked)
        matching, _ = await self._matching(tenant, call_id, asked, "$count")
        return len(matching)

    async def _walked(self, tenant: str, call_id: str, query: ListQuery, asked: Plan, count: int | None) -> Page:
        """A page in an index's own order."""
        if query.top == 0:
            return Page((), count=count)
        part = self._reads.range(tenant, call_id, asked, newest_first=query.order[0].descending)
        skip = query.skip
        if query.cursor is not None:
            part, skip = part.after(_order(query.cursor)), query.cursor.skip
        only = asked.rest is None and len(part.groups) == 1
        jump = skip if only and len(part.groups[0]) == 1 else 0
        skip -= jump
        found: list[Record] = []
        examined, last = 0, 0
        chunk = query.top + 1 if only and not skip else max(query.top + 1, FIRST_CHUNK)
        following = None
        async for order, record in self._reads.entries(part, chunk=chunk, skip=jump, whole=only):
            if len(found) == query.top or examined == EXAMINE:
                following = Cursor((last,), skip=skip)
                break
            examined, last = examined + 1, order
            if record is None or not record.visible or not asked.satisfies(record):
                continue
            if skip:
                skip -= 1
            else:
                found.append(record)
        return Page(found if only else await self._reads.whole(found, asked), following, count)

    async def _sorted(self, tenant: str, call_id: str, query: ListQuery, asked: Plan) -> Page:
        """A page for which everything that matches has to be looked at."""
        order, indexed, named = query.order, is_indexed(query.order), asked.ids is not None
        now = await self._reads.moment() if named and not indexed else 0
        matching, then = await self._matching(tenant, call_id, asked, "$count" if indexed else "$orderby")
        cursor = query.cursor or Cursor((), now or then, query.skip)
        places = [
            (place(order, seen), record)
            for record in matching
            if (seen := record if indexed else as_of(record, cursor.moment)) is not None
        ]
        ranks = [(comparable(order, values), number) for number, (values, _) in enumerate(places)]
        if cursor.after:
            after = comparable(order, cursor.after)
            ranks = [entry for entry in ranks if entry[0] > after]
        wanted = nsmallest(cursor.skip + query.top + 1, ranks)
        page = [places[number] for _, number in wanted[cursor.skip : cursor.skip + query.top]]
        following = None
        if page and len(wanted) > cursor.skip + query.top:
            following = Cursor(page[-1][0], cursor.moment)
        records = [record for _, record in page]
        if not named:
            records = await self._reads.whole(records, asked)
        return Page(records, following, len(matching) if query.count else None)

    async def _matching(self, tenant: str, call_id: str, asked: Plan, option: str) -> tuple[list[Record], Micros]:
        """All that match, and when they began to be read: without members, unless it is by their ids.

        Raises Invalid when more than EXAMINE had to be read.
        """
        if asked.ids is not None:
            return await self._reads.named(tenant, call_id, asked), 0
        matching: list[Record] = []
        part: Range | None = self._reads.range(tenant, call_id, asked)
        moment = 0
        while part is not None:
            stretch = await self._reads.stretch(part, most=CHUNK)
            if not moment and stretch.total > EXAMINE:
                raise _too_many(option)
            moment = moment or stretch.moment
            matching += [
                record
                for _, record in stretch.entries
                if record is not None and record.visible and asked.satisfies(record)
            ]
            part = part.after(stretch.entries[-1][0]) if len(stretch.entries) == CHUNK else None
        return matching, moment


def _is_countable(asked: Plan) -> bool:
    """Whether the indexes alone can count it: all of it, and no bounds of an intersection."""
    both = asked.contexts is not None and asked.statuses is not None
    bounded = asked.first is not None or asked.last is not None
    return asked.rest is None and asked.ids is None and not (both and bounded)


def _order(cursor: Cursor) -> int:
    return int(cursor.after[0] or 0)


def _too_many(option: str) -> Invalid:
    return Invalid(
        f"{option} would have to look at more than {EXAMINE:,} operations here. Ask for fewer by the indexed members, "
        f"{INDEXED}" + (", or order by createdDateTime." if option == "$orderby" else "."),
        target=option,
    )
