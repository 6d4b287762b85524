"""Lists against a real server: what they find, and their pages while operations come and end."""

import random
from collections.abc import Awaitable, Callable

import pytest

from tests.support.clock import Clock
from tests.support.lists import ReadPage, read_page
from tests.support.random_conditions import holds
from tests.support.records import CALL, claim, make_record
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, ResultInfo
from tracker.domain.record import Record
from tracker.errors import Invalid
from tracker.listing import pager
from tracker.listing.conditions import MEMBERS, And, Comparison, Condition, Membership, Operator, Or
from tracker.listing.pager import MAX_EXAMINED, Pager
from tracker.listing.planner import SortKey
from tracker.listing.query import ListQuery
from tracker.store.store import Store


@pytest.fixture
def lists(store: Store) -> Pager:
    return Pager(store)


async def created(store: Store, **fields: object) -> Record:
    return (await store.create(make_record(**fields)))[0]


async def started(store: Store, record: Record) -> Record:
    return await claim(store, record)


async def completed(store: Store, record: Record) -> Record:
    return await store.apply(lifecycle.succeed(record, DONE, {}))


async def pages(
    lists: Pager, query: ListQuery, between: Callable[[int], Awaitable[None]] | None = None
) -> list[ReadPage]:
    """All pages of a list; `between` is awaited after each, with how many there were."""
    found = [await read_page(lists, query)]
    while (cursor := found[-1].cursor) is not None:
        if between is not None:
            await between(len(found))
        found.append(await read_page(lists, ListQuery(query.where, query.order, query.top, cursor=cursor)))
    return found


def ids(found: list[ReadPage]) -> list[str]:
    return [record.id for page in found for record in page.records]


@pytest.fixture
async def many(store: Store, clock: Clock) -> list[Record]:
    """Operations of every status, oldest first."""
    records = []
    for number in range(24):
        record = await created(store, id=f"op-{number * 7 % 24:02}", client_context=[None, "a", "b", ""][number % 4])
        if number % 3:
            record = await started(store, record)
        if number % 3 == 2:
            outcome = lifecycle.fail(record, ResultInfo(code=500 + number % 2), {}) if number % 2 else None
            record = await (store.apply(outcome) if outcome else completed(store, record))
        records.append(record)
        await clock.advance(1)
    return records


def random_condition(rng: random.Random, records: list[Record], depth: int = 2) -> Condition:
    """A condition whose values some of the records have."""
    if depth and rng.random() < 0.6:
        terms = (random_condition(rng, records, depth - 1), random_condition(rng, records, depth - 1))
        return And(terms) if rng.random() < 0.5 else Or(terms)
    record = rng.choice(records)
    member, value = rng.choice(
        [
            ("status", record.status),
            ("clientContext", record.client_context),
            ("createdDateTime", record.created),
            ("completedDateTime", record.completed or None),
            ("id", record.id),
        ]
    )
    return Membership(member, (value,)) if rng.random() < 0.3 else Comparison(member, rng.choice(list(Operator)), value)


@pytest.mark.parametrize("seed", range(3))
async def test_pages_and_counts_are_what_a_simple_reading_of_all_finds(
    lists: Pager, many: list[Record], seed: int
) -> None:
    rng = random.Random(seed)
    for round_ in range(50):
        where = random_condition(rng, many)
        member = rng.choice(["createdDateTime", "status", "clientContext", "completedDateTime", "id"])
        order = parse_order(f"{member} {rng.choice(['asc', 'desc'])}, resultInfo/code desc")
        skip, top = rng.choice([0, 0, 1, 5, 30]), rng.choice([1, 3, 7, 100])
        print("seed", seed, "round", round_, where, order, skip, top)
        found = await pages(lists, ListQuery(where, order, top, skip=skip, count=True))
        expected = [record for record in many if holds(where, record)]
        assert found[0].count == await lists.count("test", CALL, where) == len(expected)
        assert ids(found) == ids([ReadPage(sorted_simply(expected, order), None, None)])[skip:]


def sorted_simply(records: list[Record], order: tuple[SortKey, ...]) -> list[Record]:
    """One stable sort for each key, the last first."""
    for key in reversed(order):
        read = MEMBERS[key.member].read
        known = sorted((one for one in records if read(one) is not None), key=read, reverse=key.descending)  # type: ignore[arg-type]
        unknown = [one for one in records if read(one) is None]
        records = known + unknown if key.descending else unknown + known
    return records


@pytest.mark.parametrize(
    "order",
    ["createdDateTime desc", "createdDateTime", "id", "status", "startedDateTime desc", "completedDateTime"],
)
async def test_pages_neither_skip_nor_repeat_while_operations_come_and_end(
    store: Store, lists: Pager, clock: Clock, order: str
) -> None:
    """With a gate at each page's end: one is created, one begins, one ends, so that each order is disturbed."""
    made = [await created(store) for _ in range(12)]
    begun = [await started(store, await created(store)) for _ in range(12)]
    everything = {record.id for record in made + begun}

    async def disturb(number: int) -> None:
        await clock.advance(1)
        await created(store)
        await started(store, made[number % 12])
        await completed(store, begun[-number % 12])

    found = ids(await pages(lists, ListQuery(order=parse_order(order), top=5), disturb))
    assert len(found) == len(set(found))
    assert everything <= set(found)
    assert set(found) == everything or order == "createdDateTime", "only there do new ones stand at the end"


@pytest.mark.parametrize("order", ["createdDateTime desc", "createdDateTime", "startedDateTime desc", "id"])
async def test_pages_with_a_status_hold_each_operation_that_has_it_all_the_time(
    store: Store, lists: Pager, clock: Clock, order: str
) -> None:
    """Those that end meanwhile may be there or not; no other is missing, and none is there twice."""
    begun = [await started(store, await created(store)) for _ in range(20)]
    waiting = [await created(store) for _ in range(5)]
    ended: set[str] = set()

    async def disturb(number: int) -> None:
        await clock.advance(1)
        for record in (begun[3 * number], begun[-3 * number]):
            if record.id not in ended:
                await completed(store, record)
                ended.add(record.id)
        await started(store, waiting[number])
        await started(store, await created(store))

    query = ListQuery(parse_filter("status eq 'Running'"), parse_order(order), top=6)
    found = ids(await pages(lists, query, disturb))
    assert len(found) == len(set(found))
    assert {record.id for record in begun} - ended <= set(found)
    assert ended, "something has ended between two pages"


async def test_a_deleted_operation_moves_no_other_from_one_page_to_another(store: Store, lists: Pager) -> None:
    made = [await created(store) for _ in range(10)]

    async def delete(_: int) -> None:
        await store.apply(lifecycle.hide(made[-1]))
        await store.apply(lifecycle.hide(made[0]))

    found = await read_page(lists, ListQuery(top=5))
    await delete(1)
    rest = await read_page(lists, ListQuery(top=5, cursor=found.cursor))
    assert ids([found, rest]) == [record.id for record in made[:0:-1]]


async def test_a_full_last_page_has_no_next(store: Store, lists: Pager) -> None:
    for _ in range(4):
        await created(store)
    for order in ("createdDateTime", "id"):
        page = await read_page(lists, ListQuery(order=parse_order(order), top=4))
        assert (len(page.records), page.cursor) == (4, None)


async def test_no_index_names_a_record_that_redis_expired(store: Store, lists: Pager) -> None:
    record = await completed(store, await started(store, await created(store, client_context="c")))
    kept = await created(store)
    await store.redis.delete(store.keys.operation(record.key))
    assert await lists.count("test", CALL) == 2
    assert ids(await pages(lists, ListQuery())) == [kept.id]
    assert await lists.count("test", CALL) == 1


async def test_a_search_finds_words_and_phrases(store: Store, lists: Pager) -> None:
    record = await started(store, await created(store, client_context="Invoice 17"))
    await store.apply(lifecycle.progress(record, percent=5, detail="Reading pages"))
    other = await created(store, client_context="invoice 18")
    for text, expected in [
        ("invoice", [other.id, record.id]),
        ("INVOICE pages", [record.id]),
        ('"invoice 18" OR "reading pages"', [other.id, record.id]),
        ("invoice NOT reading", [other.id]),
    ]:
        where = parse_search(text)
        assert ids(await pages(lists, ListQuery(where))) == expected
        assert await lists.count("test", CALL, where) == len(expected)


# --- bounds


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound that a test can reach."""
    monkeypatch.setattr(pager, "MAX_EXAMINED", 12)
    monkeypatch.setattr(pager, "CHUNK", 5)
    monkeypatch.setattr(pager, "FIRST_CHUNK", 5)
    assert MAX_EXAMINED == 10_000
    return 12


async def test_a_page_ends_early_at_the_bound_and_has_a_next_link(store: Store, lists: Pager, examine: int) -> None:
    made = [await created(store, client_context="x" if number in {0, 1, 20} else "y") for number in range(30)]
    found = await pages(lists, ListQuery(parse_filter("endswith(clientContext,'x')"), top=2))
    assert [len(page.records) for page in found] == [1, 0, 2]
    assert ids(found) == [made[number].id for number in (20, 1, 0)]
    assert examine < 30


async def test_what_a_filter_skips_is_examined_too(store: Store, lists: Pager, examine: int) -> None:
    made = [await created(store, client_context="x") for _ in range(30)]
    found = await pages(lists, ListQuery(parse_filter("endswith(clientContext,'x')"), top=3, skip=examine + 1))
    assert [len(page.records) for page in found[:2]] == [0, 3]
    assert ids(found) == [record.id for record in made[-examine - 2 :: -1]]


async def test_an_order_or_a_count_that_needs_more_names_the_indexes(store: Store, lists: Pager, examine: int) -> None:
    where = parse_filter("endswith(clientContext,'x')")
    for number in range(examine + 1):
        await created(store, client_context=str(number % 2))
    for target, query in [
        ("$orderby", ListQuery(order=parse_order("status"))),
        ("$orderby", ListQuery(where, parse_order("id"))),
        ("$count", ListQuery(where, count=True)),
    ]:
        with pytest.raises(Invalid, match="status, clientContext, createdDateTime and id") as caught:
            await read_page(lists, query)
        assert caught.value.target == target
    with pytest.raises(Invalid, match="more than 12 operations"):
        await lists.count("test", CALL, where)
    narrowed = parse_filter("clientContext eq '1' and not endswith(id,'x')")
    page = await read_page(lists, ListQuery(narrowed, parse_order("status"), count=True))
    assert page.count == 6
    both = parse_filter("clientContext in ('0','1')")
    assert await lists.count("test", CALL, both) == examine + 1, "the indexes alone have it"
