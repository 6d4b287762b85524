"""The cost of lists: round trips, and the commands that the server runs for them."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.lists import read_page
from tests.support.records import claim, make_record
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.listing.pager import Pager
from tracker.listing.query import ListQuery
from tracker.store.store import Store

Cost = Callable[[ListQuery], Awaitable[dict[str, int]]]


@pytest.fixture
def cost(store: Store) -> Cost:
    """What one page makes the server run, by command."""

    async def commands() -> dict[str, int]:
        stats = await store.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()}

    async def run(query: ListQuery) -> dict[str, int]:
        before = await commands()
        await read_page(Pager(store), query)
        more = {name: number - before.get(name, 0) for name, number in (await commands()).items() if name != "info"}
        return {name: number for name, number in more.items() if number}

    return run


async def create(store: Store, number: int, client_context: str = "x") -> None:
    for _ in range(number):
        await store.create(make_record(client_context=client_context))


@pytest.mark.parametrize(
    "query",
    [
        ListQuery(top=5),
        ListQuery(order=parse_order("createdDateTime"), top=5),
        ListQuery(top=5, skip=20),
        ListQuery(parse_filter("status eq 'NotStarted'"), top=5),
        ListQuery(parse_filter("clientContext eq 'x'"), top=5),
        ListQuery(parse_filter("createdDateTime gt 2026-01-01T00:00:00Z and status ne 'Failed'"), top=5),
    ],
)
async def test_a_first_page_costs_one_round_trip_and_the_same_commands_in_a_longer_list(
    store: Store, cost: Cost, query: ListQuery
) -> None:
    await create(store, 30)
    await cost(query)
    short = await cost(query)
    await create(store, 200)
    assert await cost(query) == short
    assert short["evalsha"] == 1
    assert short["hgetall"] == 6
    assert set(short) <= {"evalsha", "hgetall", "time", "get", "zrange", "zcount"}


async def test_a_page_of_one_reads_few_times_however_many_do_not_match(store: Store, cost: Cost) -> None:
    await create(store, 60)
    spent = await cost(ListQuery(parse_filter("endswith(clientContext,'y')"), top=1))
    assert spent["evalsha"] == 1


async def test_the_smaller_of_two_indexes_is_read(store: Store, cost: Cost) -> None:
    await create(store, 40, "common")
    await create(store, 2, "rare")
    record, _ = await store.create(make_record(client_context="common"))
    await claim(store, record)
    rare = await cost(ListQuery(parse_filter("status eq 'NotStarted' and clientContext eq 'rare'")))
    running = await cost(ListQuery(parse_filter("status eq 'Running' and clientContext eq 'common'")))
    neither = await cost(ListQuery(parse_filter("status eq 'Running' and clientContext eq 'rare'")))
    assert (rare["hmget"], running["hmget"], neither.get("hmget", 0)) == (2, 1, 0)
    assert record.client_context == "common"


@pytest.mark.parametrize(
    "query", [ListQuery(parse_filter("endswith(clientContext,'y')"), top=3), ListQuery(order=parse_order("id"), top=3)]
)
async def test_what_is_only_examined_is_read_without_its_members(store: Store, cost: Cost, query: ListQuery) -> None:
    for number in range(20):
        await store.create(make_record(members={"large": "x" * 60_000}, client_context="xy"[number % 2]))
    spent = await cost(query)
    assert (spent["hmget"], spent["hgetall"]) == (20, 3)
    [*records] = (await read_page(Pager(store), query)).records
    assert [len(record.members["large"]) for record in records] == [60_000] * 3
