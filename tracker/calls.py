"""A call's operations: filtered, sorted and paged, through its indexes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from tracker.errors import Invalid
from tracker.model import Micros, Record
from tracker.plans import NEWEST_FIRST, Key, Plan, as_of, comparable, is_indexed, place, plan
from tracker.query import INDEXED, Condition, Value
from tracker.scripts import answering
from tracker.store import Store, readable

EXAMINE: Final = 10_000
"""Most operations that are looked at for one answer, where no index has it."""
CHUNK: Final = 500
"""How many of them are read at a time, at most."""
FIRST_CHUNK: Final = 100
"""How many are read first where not all may match; then twice as many, and so on."""


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
class Query:
    """What a list shall hold: at most `top` operations of which `where` is true, in a total order, after `cursor`."""

    where: Condition | None = None
    order: tuple[Key, ...] = NEWEST_FIRST
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """Candidates in the order of their creation, each with that order; None for a record that went meanwhile."""

    moment: Micros
    total: int
    """Candidates within the bounds, read or not."""
    entries: Sequence[tuple[int, Record | None]]


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a call's list: its sets in one group or two, and bounds of the creation, both included."""

    groups: Sequence[Sequence[str]]
    first: Micros | None
    last: Micros | None
    newest_first: bool = True

    @property
    def bounds(self) -> tuple[int | str, int | str]:
        """The bounds as Redis has them."""
        return "-inf" if self.first is None else self.first, "+inf" if self.last is None else self.last

    def after(self, order: int) -> "Range":
        """What comes after an operation."""
        if self.newest_first:
            return Range(self.groups, self.first, min(order - 1, order - 1 if self.last is None else self.last))
        first = max(order + 1, order + 1 if self.first is None else self.first)
        return Range(self.groups, first, self.last, newest_first=False)


class Calls:
    """Lists and counts. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, tenant: str, call_id: str, query: Query) -> Page:
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
        count = await self._count(tenant, call_id, asked) if query.count else None
        return await self._walked(tenant, call_id, query, asked, count)

    async def count(self, tenant: str, call_id: str, where: Condition | None = None) -> int:
        """How many of a call's operations satisfy a condition. Raises Invalid when more than EXAMINE had to be read."""
        asked = plan(where)
        if asked.nothing:
            return 0
        if _is_countable(asked):
            return await self._count(tenant, call_id, asked)
        matching, _ = await self._matching(tenant, call_id, asked, "$count")
        return len(matching)

    async def _walked(self, tenant: str, call_id: str, query: Query, asked: Plan, count: int | None) -> Page:
        """A page in an index's own order."""
        if query.top == 0:
            return Page((), count=count)
        part = self._range(tenant, call_id, asked, newest_first=query.order[0].descending)
        skip = query.skip
        if query.cursor is not None:
            part, skip = part.after(_order(query.cursor)), query.cursor.skip
        only = asked.rest is None and len(part.groups) == 1
        jump = skip if only and len(part.groups[0]) == 1 else 0
        skip -= jump
        found: list[Record] = []
        examined, last = 0, 0
        chunk = query.top + 1 if only and not skip else max(query.top + 1, FIRST_CHUNK)
        async for order, record in self._entries(part, chunk=chunk, skip=jump):
            if len(found) == query.top or examined == EXAMINE:
                return Page(found, Cursor((last,), skip=skip), count)
            examined, last = examined + 1, order
            if record is None or not record.visible or not asked.satisfies(record):
                continue
            if skip:
                skip -= 1
            else:
                found.append(record)
        return Page(found, None, count)

    async def _sorted(self, tenant: str, call_id: str, query: Query, asked: Plan) -> Page:
        """A page for which everything that matches has to be looked at."""
        order = query.order
        matching, now = await self._matching(tenant, call_id, asked, "$count" if is_indexed(order) else "$orderby")
        cursor = query.cursor or Cursor((), now, query.skip)
        places = [
            (place(order, seen), record)
            for record in matching
            if (seen := record if is_indexed(order) else as_of(record, cursor.moment)) is not None
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
        return Page([record for _, record in page], following, len(matching) if query.count else None)

    async def _matching(self, tenant: str, call_id: str, asked: Plan, option: str) -> tuple[list[Record], Micros]:
        """All that match, and a time at which they did. Raises Invalid when more than EXAMINE had to be read."""
        if asked.ids is not None:
            return await self._named(tenant, call_id, asked)
        matching: list[Record] = []
        part: Range | None = self._range(tenant, call_id, asked)
        moment = 0
        while part is not None:
            stretch = await self._stretch(part, most=CHUNK)
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

    async def _named(self, tenant: str, call_id: str, asked: Plan) -> tuple[list[Record], Micros]:
        """What matches of the operations that a condition names by their ids."""
        ids = self._store.keys.ids(tenant)
        async with answering():
            keys = await self._store.redis.hmget(ids, list(asked.ids or ()))
        moment = (await self._stretch(Range([[]], None, None), most=0)).moment
        records = await self._store.read(str(key) for key in keys if key is not None)
        fitting = (record for record in records if record.call_id == call_id and record.visible)
        return [record for record in fitting if asked.satisfies(record)], moment

    async def _entries(self, part: Range, *, chunk: int, skip: int) -> AsyncIterator[tuple[int, Record | None]]:
        """A part of the list, read by so many at first."""
        while True:
            stretch = await self._stretch(part, most=chunk, skip=skip)
            for entry in stretch.entries:
                yield entry
            if len(stretch.entries) < chunk:
                return
            part, skip = part.after(stretch.entries[-1][0]), 0
            chunk = max(chunk, min(2 * chunk, CHUNK))

    async def _stretch(self, part: Range, *, most: int, skip: int = 0) -> Stretch:
        """Read from the beginning of a part of the list, in one round trip."""
        moment, total, *flat = await self._store.page(
            lower=part.bounds[0],
            upper=part.bounds[1],
            newest=int(part.newest_first),
            skip=skip,
            most=most,
            first=len(part.groups[0]),
            sets=[name for group in part.groups for name in group],
        )
        entries = [(int(order), readable(_pairs(stored))) for order, stored in zip(flat[::2], flat[1::2], strict=True)]
        return Stretch(int(moment), total, entries)

    async def _count(self, tenant: str, call_id: str, asked: Plan) -> int:
        """Count by the indexes alone, in one round trip."""
        part = self._range(tenant, call_id, asked)
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            if len(part.groups) == 1:
                for name in part.groups[0]:
                    pipe.zcount(name, *part.bounds)
            else:
                for one in part.groups[0]:
                    for other in part.groups[1]:
                        pipe.zintercard(2, [one, other])
            return sum(await pipe.execute())

    def _range(self, tenant: str, call_id: str, asked: Plan, *, newest_first: bool = True) -> Range:
        keys, groups = self._store.keys, []
        if asked.contexts is not None:
            groups.append([keys.context(tenant, call_id, context) for context in asked.contexts])
        if asked.statuses is not None:
            groups.append([keys.status(tenant, call_id, status) for status in asked.statuses])
        return Range(groups or [[keys.call(tenant, call_id)]], asked.first, asked.last, newest_first)


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


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
