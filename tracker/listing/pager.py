"""Pages of a call's operations, filtered and sorted: by the indexes alone, or by reading and sorting records."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

from tracker.domain.operation import Micros
from tracker.domain.record import Record
from tracker.errors import Invalid
from tracker.listing.conditions import INDEXED, Condition
from tracker.listing.index_reader import CHUNK, FIRST_CHUNK, Chunk, IndexReader, Range
from tracker.listing.planner import Plan, is_indexed, plan
from tracker.listing.query import Cursor, ListQuery, Page, Take
from tracker.listing.ranking import Ranking
from tracker.runtime.loop_slices import LoopSlice
from tracker.runtime.shares import Shares, Tenants
from tracker.store.store import Store

MAX_EXAMINED: Final = 10_000
"""How many operations one request reads at most, if the indexes alone cannot answer it."""
MAX_TESTS: Final = 200_000
"""How many tests one request makes at most. A condition of 40 words or comparisons has 40 tests for each operation."""
MAX_COMPARED: Final = 200_000
"""How many operations Redis compares at most to count those that are in two indexes. Others wait meanwhile."""
STEPS_AT_ONCE: Final = 4
"""How many round trips of lists are under way at once in one process, each with the work on what it has read."""
RANKINGS_AT_ONCE: Final = 8
"""How many lists are sorted at once in one process. Each has the places of up to MAX_EXAMINED operations in memory."""
PATIENCE: Final = 15.0
"""The longest time that a list waits for its next round trip while other lists are read, in seconds."""
BUSY: Final = "Too many lists are read at the moment; try again."

_Item = TypeVar("_Item")


class Pager:
    """Lists and counts operations. Every method raises Unavailable while Redis is away, and while too much is read.

    A list is read in steps: a round trip, and the work on what it has read. Tenants share the steps of a process, so
    that the lists of one tenant neither keep Redis busy nor the event loop.
    """

    def __init__(self, store: Store, tenants: Tenants | None = None) -> None:
        known = tenants or Tenants()
        self._reader = IndexReader(store)
        self._steps, self._rankings = Shares(STEPS_AT_ONCE, known), Shares(RANKINGS_AT_ONCE, known)

    async def page(self, tenant: str, call_id: str, query: ListQuery, take: Take) -> Page:
        """Read a page of a call's operations, and give each record to `take`. The list of an unknown call is empty.

        The page ends early, with a cursor, when `take` wants no more. At most MAX_EXAMINED operations are read, and
        fewer if the condition has many terms (MAX_TESTS). In the order of creation, a page that would need more ends
        early with a cursor. In another order, or with a count that no index has, needing more raises Invalid.
        """
        query_plan = plan(query.where)
        if query_plan.nothing:
            return Page(count=0 if query.count else None)
        walk = _Walk(self._reader, partial(self._step, tenant), query_plan)
        count_is_indexed = not query.count or _is_countable(query_plan)
        if query_plan.ids is not None or not count_is_indexed or not is_indexed(query.order):
            async with self._rankings.acquired(tenant, BUSY, within=PATIENCE):
                return await walk.page_by_sorting(tenant, call_id, query, take)
        count = await self._count_by_index(tenant, call_id, query_plan) if query.count else None
        return await walk.page_by_index(tenant, call_id, query, take, count)

    async def count(self, tenant: str, call_id: str, where: Condition | None = None) -> int:
        """How many of a call's operations satisfy a condition.

        Raises Invalid when more operations had to be read than `page` reads.
        """
        query_plan = plan(where)
        if query_plan.nothing:
            return 0
        if _is_countable(query_plan):
            return await self._count_by_index(tenant, call_id, query_plan)
        walk = _Walk(self._reader, partial(self._step, tenant), query_plan)
        return await walk.each_match(tenant, call_id, "$count", lambda _record, _moment: None)

    async def _count_by_index(self, tenant: str, call_id: str, query_plan: Plan) -> int:
        async with self._step(tenant):
            if await self._reader.compared(tenant, call_id, query_plan) > MAX_COMPARED:
                raise _too_many("$count", MAX_COMPARED)
            return await self._reader.count(tenant, call_id, query_plan)

    def _step(self, tenant: str) -> AbstractAsyncContextManager[None]:
        """The context in which a step of a tenant's list is made."""
        return self._steps.acquired(tenant, BUSY, within=PATIENCE)


class _Walk:
    """The reading of one list or count, by one plan. `step` is the context in which a step is made."""

    def __init__(
        self, reader: IndexReader, step: Callable[[], AbstractAsyncContextManager[None]], query_plan: Plan
    ) -> None:
        self._reader, self._step, self._plan = reader, step, query_plan
        self.most_examined = min(MAX_EXAMINED, MAX_TESTS // max(1, query_plan.tests))

    async def page_by_index(self, tenant: str, call_id: str, query: ListQuery, take: Take, count: int | None) -> Page:
        """Read a page in the order of creation, which the indexes have, in chunks until the page is full."""
        if query.top == 0:
            return Page(count=count)
        part = self._reader.range(tenant, call_id, self._plan, newest_first=query.order[0].descending)
        skip = query.skip
        if query.cursor is not None:
            part, skip = part.after(_created_order(query.cursor)), query.cursor.skip
        # If every candidate matches, their whole records are read at once, and only as many as the page needs. In a
        # single index, Redis skips the first candidates without reading them.
        all_match = self._plan.rest is None and len(part.groups) == 1
        skipped_unread = skip if all_match and len(part.groups[0]) == 1 else 0
        builder = _PageBuilder(query.top, self, skip - skipped_unread, take if all_match else None)
        chunk = query.top + 1 if all_match and not builder.skip else max(query.top + 1, FIRST_CHUNK)
        await self._each(part, builder.add, most=chunk, skip=skipped_unread, whole=all_match)
        taken = await self._take_whole([key for _, key in builder.found], take)
        if taken < len(builder.found):
            return Page(Cursor((builder.found[taken - 1][0],)), count)
        return Page(builder.cursor, count)

    async def page_by_sorting(self, tenant: str, call_id: str, query: ListQuery, take: Take) -> Page:
        """Read all operations that match, sort them, and take the page. For what the indexes cannot sort or count."""
        by_index, by_id = is_indexed(query.order), self._plan.ids is not None
        cursor = query.cursor or Cursor((), skip=query.skip)
        moment = cursor.moment or (await self._reader.moment() if by_id and not by_index else 0)
        end = cursor.skip + query.top
        ranking = Ranking(query.order, after=cursor.after, moment=moment, most=end + 1)

        def rank(record: Record, read_at: Micros) -> None:
            ranking.moment = ranking.moment or read_at
            ranking.add(record)

        count = await self.each_match(tenant, call_id, "$count" if by_index else "$orderby", rank)
        page, more = ranking.places[cursor.skip : end], len(ranking.places) > end
        taken = await self._take_whole([place.key for place in page], take)
        is_cut = page and (more or taken < len(page))
        next_cursor = Cursor(page[taken - 1].position, ranking.moment) if is_cut else None
        return Page(next_cursor, count if query.count else None)

    async def each_match(
        self, tenant: str, call_id: str, option: str, on_match: Callable[[Record, Micros], None]
    ) -> int:
        """Call `on_match` for all operations that match, with the time of the first read. Returns how many match.

        The records have no members. The time is 0 for operations that the plan names by their ids. Raises Invalid,
        which names the query option `option`, when more than `most_examined` would have to be read.
        """
        count, moment = 0, 0

        def begin(chunk: Chunk) -> None:
            nonlocal moment
            moment = chunk.moment
            self._check_number(chunk.total, option)

        def add(_: int, record: Record | None) -> bool:
            nonlocal count
            if record is not None and record.call_id == call_id and self.fits(record):
                count += 1
                on_match(record, moment)
            return True

        if self._plan.ids is None:
            part = self._reader.range(tenant, call_id, self._plan)
            await self._each(part, add, most=CHUNK, begin=begin)
        else:
            keys = await self._reader.keys_of(tenant, self._plan.ids)
            self._check_number(len(keys), option)
            await self._each_of(keys, lambda record: add(0, record), whole=False)
        return count

    def fits(self, record: Record) -> bool:
        """Whether clients see the record and it satisfies the plan."""
        return record.visible and bool(self._plan.satisfies(record))

    async def _take_whole(self, keys: Sequence[str], take: Take) -> int:
        """Read records again, with members, and take those that still match. Returns after how many keys it ended."""
        return await self._each_of(
            keys, lambda record: record is None or not self.fits(record) or take(record), whole=True
        )

    async def _each(
        self,
        part: Range,
        add: Callable[[int, Record | None], bool],
        *,
        most: int,
        skip: int = 0,
        whole: bool = False,
        begin: Callable[[Chunk], None] | None = None,
    ) -> None:
        """Read the candidates of a range until `add` returns False. `begin` is called with the first chunk.

        The first chunk has `most` candidates, and each later one up to twice as many as the one before; CHUNK at most.
        """
        more = True
        while more:
            async with self._step():
                chunk = await self._reader.read(part, most=min(most, CHUNK), skip=skip, whole=whole)
                if begin is not None:
                    begin(chunk)
                if not await _until_refused(chunk.entries(), lambda entry: add(*entry)):
                    return
            more = chunk.more
            if more:
                part, skip, most, begin = part.after(chunk.last), 0, 2 * most, None

    async def _each_of(self, keys: Sequence[str], add: Callable[[Record | None], bool], *, whole: bool) -> int:
        """Read the records of these keys until `add` returns False. Returns how many were read."""
        number = 0

        def counted(record: Record | None) -> bool:
            nonlocal number
            number += 1
            return add(record)

        goes_on = True
        while goes_on and number < len(keys):
            async with self._step():
                records = await self._reader.by_keys(keys[number : number + CHUNK], whole=whole)
                goes_on = await _until_refused(records, counted)
        return number

    def _check_number(self, number: int, option: str) -> None:
        if number > self.most_examined:
            raise _too_many(option, self.most_examined)


class _PageBuilder:
    """Collects a page from candidates that come in the order of an index.

    `skip`: how many matching records are still to be left out before the first of the page. `take` gets the records;
    if it is None, they are read without members, and `found` gets their keys.
    """

    def __init__(self, top: int, walk: _Walk, skip: int, take: Take | None) -> None:
        self._top, self._walk, self._take, self.skip = top, walk, take, skip
        self.found: list[tuple[int, str]] = []
        """For each record that is not taken yet, its score in the index and its internal key."""
        self.cursor: Cursor | None = None
        """Where the next page starts; None while no candidate is known to follow this page."""
        self._left, self._examined, self._last_created_order = top, 0, 0

    def add(self, created_order: int, record: Record | None) -> bool:
        """Take the next candidate. `record` is None when the record is gone.

        Returns False when the page has ended before this candidate: it is full, or enough candidates were examined.
        """
        if not self._left or self._examined == self._walk.most_examined:
            self.cursor = Cursor((self._last_created_order,), skip=self.skip)
            return False
        self._examined, self._last_created_order = self._examined + 1, created_order
        if record is None or not self._walk.fits(record):
            return True
        if self.skip:
            self.skip -= 1
        elif self._take is None:
            self.found.append((created_order, record.key))
            self._left -= 1
        else:
            self._left = self._left - 1 if self._take(record) else 0
        return True


async def _until_refused(items: Iterator[_Item], accept: Callable[[_Item], bool]) -> bool:
    """Give each item to `accept` until it returns False, in slices of the event loop. Returns whether it took all."""
    loop_slice = LoopSlice()
    for item in items:
        if not accept(item):
            return False
        if loop_slice.is_over:
            await loop_slice.rest()
    return True


def _is_countable(query_plan: Plan) -> bool:
    """Whether the indexes alone can count the operations: they answer the whole condition.

    ZINTERCARD counts the intersection of two indexes, but cannot limit it to a range of creation times.
    """
    both = query_plan.contexts is not None and query_plan.statuses is not None
    bounded = query_plan.first is not None or query_plan.last is not None
    return query_plan.rest is None and query_plan.ids is None and not (both and bounded)


def _created_order(cursor: Cursor) -> int:
    return int(cursor.after[0] or 0)


def _too_many(option: str, most: int) -> Invalid:
    fewer = f" A condition of many terms looks at fewer than {MAX_EXAMINED:,}." if most < MAX_EXAMINED else ""
    return Invalid(
        f"{option} would have to look at more than {most:,} operations here.{fewer} Ask for fewer by the indexed "
        f"members, {INDEXED}" + (", or order by createdDateTime." if option == "$orderby" else "."),
        target=option,
    )
