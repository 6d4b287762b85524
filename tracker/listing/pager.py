"""Pages of a call's operations, filtered and sorted: by the indexes alone, or by reading and sorting records."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.errors import Invalid
from tracker.listing.conditions import INDEXED, Condition, Value
from tracker.listing.index_reader import CHUNK, FIRST_CHUNK, IndexReader, Range
from tracker.listing.planner import NEWEST_FIRST, Plan, SortKey, as_of, comparable, is_indexed, plan, position
from tracker.store.store import Store

MAX_EXAMINED: Final = 10_000
"""How many operations one request reads at most, if the indexes alone cannot answer it."""


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
    """A page of a list. `cursor`: where the next page starts. `count`: how many operations match in all."""

    records: Sequence[Record]
    cursor: Cursor | None = None
    count: int | None = None


class Pager:
    """Lists and counts operations. Every method raises Unavailable while Redis is away."""

    def __init__(self, store: Store) -> None:
        self._reader = IndexReader(store)

    async def page(self, tenant: str, call_id: str, query: ListQuery) -> Page:
        """Read a page of a call's operations. The list of an unknown call is empty.

        At most MAX_EXAMINED operations are read. In the order of creation, a page that would need more ends early with
        a cursor. In another order, or with a count that the indexes do not have, needing more raises Invalid.
        """
        query_plan = plan(query.where)
        if query_plan.nothing:
            return Page((), count=0 if query.count else None)
        count_is_indexed = not query.count or _is_countable(query_plan)
        if query_plan.ids is not None or not count_is_indexed or not is_indexed(query.order):
            return await self._page_by_sorting(tenant, call_id, query, query_plan)
        count = await self._reader.count(tenant, call_id, query_plan) if query.count else None
        return await self._page_by_index(tenant, call_id, query, query_plan, count)

    async def count(self, tenant: str, call_id: str, where: Condition | None = None) -> int:
        """How many of a call's operations satisfy a condition.

        Raises Invalid when more than MAX_EXAMINED had to be read.
        """
        query_plan = plan(where)
        if query_plan.nothing:
            return 0
        if _is_countable(query_plan):
            return await self._reader.count(tenant, call_id, query_plan)
        matching, _ = await self._matching(tenant, call_id, query_plan, "$count")
        return len(matching)

    async def _page_by_index(
        self, tenant: str, call_id: str, query: ListQuery, query_plan: Plan, count: int | None
    ) -> Page:
        """Read a page in the order of creation, which the indexes have, in chunks until the page is full."""
        if query.top == 0:
            return Page((), count=count)
        part = self._reader.range(tenant, call_id, query_plan, newest_first=query.order[0].descending)
        skip = query.skip
        if query.cursor is not None:
            part, skip = part.after(_created_order(query.cursor)), query.cursor.skip
        # If every candidate matches, their whole records are read at once, and only as many as the page needs. In a
        # single index, Redis skips the first candidates without reading them.
        all_match = query_plan.rest is None and len(part.groups) == 1
        skipped_unread = skip if all_match and len(part.groups[0]) == 1 else 0
        builder = _PageBuilder(query.top, query_plan, skip - skipped_unread)
        chunk = query.top + 1 if all_match and not builder.skip else max(query.top + 1, FIRST_CHUNK)
        entries = self._reader.entries(part, chunk=chunk, skip=skipped_unread, whole=all_match)
        async for created_order, record in entries:
            if not builder.add(created_order, record):
                break
        records = builder.records if all_match else await self._reader.whole(builder.records, query_plan)
        return Page(records, builder.cursor, count)

    async def _page_by_sorting(self, tenant: str, call_id: str, query: ListQuery, query_plan: Plan) -> Page:
        """Read all operations that match, sort them, and return the page. For what the indexes cannot sort or count."""
        by_index, by_id = is_indexed(query.order), query_plan.ids is not None
        now = await self._reader.moment() if by_id and not by_index else 0
        matching, read_at = await self._matching(tenant, call_id, query_plan, "$count" if by_index else "$orderby")
        cursor = query.cursor or Cursor((), now or read_at, query.skip)
        end = cursor.skip + query.top
        sorted_ = _sorted_after(cursor, query.order, matching, most=end + 1)
        page = sorted_[cursor.skip : end]
        next_cursor = Cursor(page[-1][0], cursor.moment) if page and len(sorted_) > end else None
        records: Sequence[Record] = [record for _, record in page]
        if not by_id:
            records = await self._reader.whole(records, query_plan)
        return Page(records, next_cursor, len(matching) if query.count else None)

    async def _matching(self, tenant: str, call_id: str, query_plan: Plan, option: str) -> tuple[list[Record], Micros]:
        """Read all operations that match. Returns their records, and the time when the reading began.

        Records that are read by their ids have their members, and the time is 0. All other records have no members.
        Raises Invalid, which names the query option `option`, when more than MAX_EXAMINED would have to be read.
        """
        if query_plan.ids is not None:
            return await self._reader.named(tenant, call_id, query_plan), 0
        matching: list[Record] = []
        part: Range | None = self._reader.range(tenant, call_id, query_plan)
        moment = 0
        while part is not None:
            candidates = await self._reader.read(part, most=CHUNK)
            if not moment and candidates.total > MAX_EXAMINED:
                raise _too_many(option)
            moment = moment or candidates.moment
            matching += [
                record
                for _, record in candidates.entries
                if record is not None and record.visible and query_plan.satisfies(record)
            ]
            part = part.after(candidates.entries[-1][0]) if len(candidates.entries) == CHUNK else None
        return matching, moment


class _PageBuilder:
    """Collects the records of a page from candidates that come in the order of an index.

    `skip`: how many matching records are still to be left out before the first of the page.
    """

    def __init__(self, top: int, query_plan: Plan, skip: int) -> None:
        self._top, self._query_plan, self.skip = top, query_plan, skip
        self.records: list[Record] = []
        self.cursor: Cursor | None = None
        """Where the next page starts; None while no candidate is known to follow this page."""
        self._examined = 0
        self._last_created_order = 0

    def add(self, created_order: int, record: Record | None) -> bool:
        """Take the next candidate. `record` is None when the record is gone.

        Returns False when the page has ended before this candidate: it is full, or MAX_EXAMINED candidates were
        examined.
        """
        if len(self.records) == self._top or self._examined == MAX_EXAMINED:
            self.cursor = Cursor((self._last_created_order,), skip=self.skip)
            return False
        self._examined, self._last_created_order = self._examined + 1, created_order
        if record is not None and record.visible and self._query_plan.satisfies(record):
            if self.skip:
                self.skip -= 1
            else:
                self.records.append(record)
        return True


def _sorted_after(
    cursor: Cursor, order: Sequence[SortKey], records: Sequence[Record], *, most: int
) -> list[tuple[tuple[Value | None, ...], Record]]:
    """The first records after a cursor, `most` of them at most, each with its position in the order.

    If no index has the order, the records are sorted by their state at the cursor's moment. So an operation that starts
    or ends between two pages is neither skipped nor repeated.
    """
    positions = [
        (position(order, state), record)
        for record in records
        if (state := record if is_indexed(order) else as_of(record, cursor.moment)) is not None
    ]
    ranks = [(comparable(order, values), number) for number, (values, _) in enumerate(positions)]
    if cursor.after:
        after = comparable(order, cursor.after)
        ranks = [entry for entry in ranks if entry[0] > after]
    return [positions[number] for _, number in nsmallest(most, ranks)]


def _is_countable(query_plan: Plan) -> bool:
    """Whether the indexes alone can count the operations: they answer the whole condition.

    ZINTERCARD counts the intersection of two indexes, but cannot limit it to a range of creation times.
    """
    both = query_plan.contexts is not None and query_plan.statuses is not None
    bounded = query_plan.first is not None or query_plan.last is not None
    return query_plan.rest is None and query_plan.ids is None and not (both and bounded)


def _created_order(cursor: Cursor) -> int:
    return int(cursor.after[0] or 0)


def _too_many(option: str) -> Invalid:
    return Invalid(
        f"{option} would have to look at more than {MAX_EXAMINED:,} operations here. Ask for fewer by the indexed "
        f"members, {INDEXED}" + (", or order by createdDateTime." if option == "$orderby" else "."),
        target=option,
    )
