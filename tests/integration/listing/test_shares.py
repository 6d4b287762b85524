"""Lists that cost much: what they read at once, what others can do meanwhile, and where they end."""

import asyncio

import pytest

from tests.support.lists import read_page
from tests.support.records import CALL, make_record
from tests.support.waiting import eventually, soon
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.errors import Invalid, Unavailable
from tracker.listing import index_reader, pager
from tracker.listing.index_reader import CHUNK, IndexReader
from tracker.listing.pager import STEPS_AT_ONCE, Pager
from tracker.listing.query import ListQuery
from tracker.runtime import loop_slices
from tracker.runtime.shares import Tenants
from tracker.store.store import Store

WORDS = parse_search(" OR ".join(f"word{number}" for number in range(200)))
CONTEXTS = parse_filter(" or ".join(f"clientContext eq 'c{number}'" for number in range(16)))


async def create(store: Store, number: int, **fields: object) -> None:
    for start in range(0, number, 100):
        batch = [
            store.create(make_record(client_context=f"c{index % 16}", **fields))
            for index in range(start, min(start + 100, number))
        ]
        await asyncio.gather(*batch)


async def test_other_tasks_run_while_one_page_is_evaluated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice ends at once here, so that their number says how often other tasks may run."""
    await create(store, 300)
    monkeypatch.setattr(loop_slices, "SLICE_SECONDS", 0.0)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await read_page(Pager(store), ListQuery(WORDS))
    counting.cancel()
    assert turns >= 300


async def test_a_search_of_many_words_examines_fewer_operations_and_goes_on_in_the_next_page(store: Store) -> None:
    await create(store, 1100)
    await store.create(make_record(client_context="word7"))
    found = await read_page(Pager(store), ListQuery(WORDS, parse_order("createdDateTime")))
    assert found.records == []
    assert found.cursor is not None
    rest = await read_page(Pager(store), ListQuery(WORDS, parse_order("createdDateTime"), cursor=found.cursor))
    assert [record.client_context for record in rest.records] == ["word7"]
    with pytest.raises(Invalid, match="more than 1,000 operations") as refused:
        await Pager(store).count("test", CALL, WORDS)
    assert refused.value.target == "$count"


async def test_one_round_trip_reads_few_operations_however_many_indexes_it_reads(store: Store) -> None:
    await create(store, 1000)
    before = await commands(store)
    page = await read_page(Pager(store), ListQuery(CONTEXTS, top=999))
    after = await commands(store)
    assert len(page.records) == 999
    assert len({record.id for record in page.records}) == 999
    assert [record.created for record in page.records] == sorted((r.created for r in page.records), reverse=True)
    assert after["evalsha"] - before["evalsha"] == -(-1000 // CHUNK)
    assert after["zrange"] - before["zrange"] <= 16 * 3 * 5


async def commands(store: Store) -> dict[str, int]:
    stats = await store.redis.info("commandstats")
    return {name: int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "zrange")}


async def test_the_lists_of_one_tenant_leave_steps_to_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, gate, reading = asyncio.Event(), asyncio.Event(), 0
    read = IndexReader.read

    async def held(self: IndexReader, *args: object, **named: object) -> object:
        nonlocal reading
        reading += 1
        if reading == STEPS_AT_ONCE - 1:
            reached.set()
        await gate.wait()
        return await read(self, *args, **named)  # type: ignore[arg-type]

    tenants = Tenants(90)
    tenants.know("test", "other")
    lists = Pager(store, tenants)
    monkeypatch.setattr(IndexReader, "read", held)
    flood = [asyncio.create_task(read_page(lists, ListQuery())) for _ in range(20)]
    await soon(reached.wait())
    await asyncio.sleep(0)
    assert reading == STEPS_AT_ONCE - 1, "one step is left for other tenants"
    other = asyncio.create_task(lists.page("other", CALL, ListQuery(), lambda _: True))

    async def all_are_taken() -> bool:
        return reading == STEPS_AT_ONCE

    await eventually(all_are_taken)
    gate.set()
    await soon(asyncio.gather(other, *flood))


async def test_a_list_that_gets_no_step_is_told_to_come_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "PATIENCE", 0.0)
    lists = Pager(store)
    assert all(lists._steps.take("test") for _ in range(STEPS_AT_ONCE))
    with pytest.raises(Unavailable, match="Too many lists"):
        await read_page(lists, ListQuery())


@pytest.mark.parametrize("room", [1, 1000, 10_000])
@pytest.mark.parametrize("text", ["createdDateTime desc", "createdDateTime", "id", "clientContext desc"])
async def test_pages_have_every_operation_however_little_is_read_and_taken_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, room: int, text: str
) -> None:
    await create(store, 40, members={"some": "x" * 300})
    monkeypatch.setattr(index_reader, "CHUNK_BYTES", room)
    for where in (None, CONTEXTS, parse_filter("startswith(clientContext,'c')")):
        found: list[str] = []
        page = await read_page(Pager(store), ListQuery(where, parse_order(text), top=20), most=7)
        found += [record.id for record in page.records]
        while page.cursor is not None:
            query = ListQuery(where, parse_order(text), top=20, cursor=page.cursor)
            page = await read_page(Pager(store), query, most=7)
            found += [record.id for record in page.records]
        assert len(found) == len(set(found)) == 40


async def test_a_count_by_two_indexes_is_refused_when_both_are_large(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(store, 64)
    both = parse_filter("status eq 'NotStarted' and clientContext in ('c1','c2')")
    assert await Pager(store).count("test", CALL, both) == 8
    monkeypatch.setattr(pager, "MAX_COMPARED", 7)
    with pytest.raises(Invalid, match="more than 7 operations") as refused:
        await Pager(store).count("test", CALL, both)
    assert refused.value.target == "$count"
    with pytest.raises(Invalid, match="more than 7 operations"):
        await read_page(Pager(store), ListQuery(both, count=True))
    one = parse_filter("clientContext in ('c1','c2')")
    assert await Pager(store).count("test", CALL, one) == 8, "one index counts by itself"
