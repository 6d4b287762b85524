"""Pages of lists with their records, as tests look at them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.records import CALL
from tracker.domain.record import Record
from tracker.listing.pager import Pager
from tracker.listing.query import Cursor, ListQuery


@dataclass(frozen=True)
class ReadPage:
    """A page and its records."""

    records: Sequence[Record]
    cursor: Cursor | None
    count: int | None


async def read_page(pager: Pager, query: ListQuery, *, most: int | None = None, call_id: str = CALL) -> ReadPage:
    """Read a page of a call. After `most` records it is as large as it may be."""
    records: list[Record] = []

    def take(record: Record) -> bool:
        records.append(record)
        return len(records) != most

    page = await pager.page("test", call_id, query, take)
    return ReadPage(records, page.cursor, page.count)
