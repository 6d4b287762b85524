"""Lists of operations: order, pages, counts and filters."""

from urllib.parse import quote

import pytest

from tests.support.api_client import COLLECTION, TYPE, Api
from tests.support.records import claim
from tracker.domain.operation import Json
from tracker.store.store import Store


def ids(page: Json) -> list[str]:
    return [operation["id"] for operation in page["value"]]


def filtered(text: str) -> str:
    return f"{COLLECTION}?$filter={quote(text)}"


async def test_an_unknown_call_is_an_empty_list(api: Api) -> None:
    answer = await api.get(f"/v1.0{COLLECTION}?$count=true")
    assert answer.json == {
        "@odata.context": f"{api.url}/v1.0/$metadata#communications/calls('call-1')/operations",
        "@odata.count": 0,
        "value": [],
    }


async def test_a_list_is_newest_first_and_its_members_are_the_operations(api: Api) -> None:
    made = [await api.created(clientContext=str(number)) for number in range(3)]
    page = (await api.get(COLLECTION)).json
    for operation in made:
        del operation["@odata.context"]
    assert page["value"] == made[::-1]
    assert "@odata.nextLink" not in page
    assert "@odata.count" not in page


async def test_pages_hold_every_operation_once_and_keep_the_options(api: Api) -> None:
    made = [(await api.created(clientContext="a b&c"))["id"] for _ in range(5)]
    await api.created(clientContext="other")
    found: list[str] = []
    path = "/beta" + filtered("clientContext eq 'a b&c'") + "&top=2&$count=true&custom=1"
    for size, more in ((2, True), (2, True), (1, False)):
        page = (await api.get(path)).json
        assert page["@odata.count"] == 5
        assert len(page["value"]) == size
        assert ("@odata.nextLink" in page) is more
        found += ids(page)
        path = page.get("@odata.nextLink", "")
        assert not more or (path.startswith(f"{api.url}/beta{COLLECTION}?") and "custom=1" in path)
    assert found == made[::-1]


async def test_a_last_page_that_is_full_leads_to_no_operations_twice(api: Api) -> None:
    made = {(await api.created())["id"] for _ in range(4)}
    first = (await api.get(f"{COLLECTION}?$top=2")).json
    second = (await api.get(first["@odata.nextLink"])).json
    assert set(ids(first)) | set(ids(second)) == made
    if "@odata.nextLink" in second:
        assert ids((await api.get(second["@odata.nextLink"])).json) == []


async def test_filters_find_by_status_and_client_context(api: Api, store: Store) -> None:
    waiting = await api.created(clientContext="O'Neill")
    started = await api.created(clientContext="O'Neill")
    await claim(store, await store.find("test", started["id"]))
    await api.created(clientContext="o'neill")
    for text, expected in [
        ("clientContext eq 'O''Neill'", [started["id"], waiting["id"]]),
        ("status eq 'Running'", [started["id"]]),
        ("status eq microsoft.graph.operationStatus'notStarted' and clientContext eq 'O''Neill'", [waiting["id"]]),
        ("clientContext eq 'O''Neill' and status eq 'running'", [started["id"]]),
        ("status eq 'Completed'", []),
    ]:
        page = (await api.get(f"{filtered(text)}&count=true")).json
        assert (ids(page), page["@odata.count"]) == (expected, len(expected))


async def test_top_zero_counts_and_shows_nothing(api: Api) -> None:
    await api.created()
    page = (await api.get(f"{COLLECTION}?$top=0&$count=true")).json
    assert (page["value"], page["@odata.count"]) == ([], 1)
    assert "@odata.nextLink" not in page


@pytest.mark.parametrize("spelling", ["odata.maxpagesize", "maxpagesize"])
async def test_the_preferred_page_size_is_applied_and_said_so(api: Api, spelling: str) -> None:
    for _ in range(3):
        await api.created()
    answer = await api.get(COLLECTION, headers={"Prefer": f"respond-async, {spelling}=2"})
    assert len(answer.json["value"]) == 2
    assert answer.headers["Preference-Applied"] == f"{spelling}=2"


async def test_a_skip_token_of_another_list_is_refused(api: Api) -> None:
    for _ in range(2):
        await api.created()
    link = (await api.get(f"{COLLECTION}?$top=1")).json["@odata.nextLink"]
    filtered_too = link + "&$filter=" + quote("status eq 'Running'")
    for wrong in (link.replace("call-1", "call-2"), filtered_too, f"{link}x"):
        answer = await api.get(wrong)
        assert (answer.status, answer.error["target"]) == (400, "$skiptoken")


@pytest.mark.parametrize(
    ("query", "status", "target"),
    [
        ("$top=1000", 400, "$top"),
        ("$top=-1", 400, "$top"),
        ("$count=maybe", 400, "$count"),
        ("$skiptoken=zzz", 400, "$skiptoken"),
        ("$filter=status%20eq", 400, "$filter"),
        ("$filter=status%20eq%20'Sleeping'", 400, "$filter"),
        ("$filter=" + "(" * 3000, 400, "$filter"),
        ("$unknown=1", 400, "$unknown"),
        ("$top=1&top=1", 400, "$top"),
        ("$filter=length(id)%20gt%205", 501, "$filter"),
        ("$filter=" + "not%20" * 1000 + "a", 400, "$filter"),
        ("$orderby=createdDateTime%20up", 400, "$orderby"),
        ("orderby=", 400, "$orderby"),
        ("$orderby=attempt", 501, "$orderby"),
        ("$select=", 400, "$select"),
        ("$select=id(x)", 501, "$select"),
        ("$skip=-1", 400, "$skip"),
        ("$skiptoken=x&$skip=1", 400, "$skip"),
        ("$search=", 400, "$search"),
        ("$search=%22x", 400, "$search"),
        ("$expand=x", 501, "$expand"),
        ("expand=", 501, "$expand"),
        ("$apply=x", 501, "$apply"),
    ],
)
async def test_an_option_that_cannot_be_served_is_never_ignored(api: Api, query: str, status: int, target: str) -> None:
    answer = await api.get(f"{COLLECTION}?{query}")
    assert (answer.status, answer.error["target"]) == (status, target)


@pytest.mark.parametrize("query", ["api-version=2", "x", "&&&", "%FF=%FF", "a=%00"])
async def test_a_custom_option_is_ignored(api: Api, query: str) -> None:
    assert (await api.get(f"{COLLECTION}?{query}")).status == 200


async def test_every_option_may_be_there_without_its_dollar_and_pages_keep_them_all(api: Api, store: Store) -> None:
    made = [await api.created(clientContext=f"Invoice {number % 2}", own={"number": number}) for number in range(9)]
    await claim(store, await store.find("test", made[8]["id"]))
    condition = quote("endswith(clientContext,'0') and status in ('NotStarted')")
    options = f"orderby=createdDateTime&filter={condition}&search=invoice&skip=1&top=2&count=true&select=id,own/number"
    first = (await api.get(f"/beta{COLLECTION}?{options}")).json
    kind = {"@odata.type": TYPE}
    assert first["value"] == [{**kind, "id": made[number]["id"], "own": {"number": number}} for number in (2, 4)]
    assert first["@odata.count"] == 4
    assert first["@odata.context"].endswith("/operations(id,own/number)")
    second = (await api.get(first["@odata.nextLink"])).json
    assert second["value"] == [{**kind, "id": made[6]["id"], "own": {"number": 6}}]
    assert second["@odata.count"] == 4
    assert "@odata.nextLink" not in second


async def test_an_order_has_pages_too(api: Api) -> None:
    made = [await api.created(clientContext=context) for context in ("b", "a", "c", "a", None)]
    path, found = f"{COLLECTION}?$orderby=clientContext%20desc&$top=2", []
    while path:
        page = (await api.get(path)).json
        found += [operation["clientContext"] for operation in page["value"]]
        path = page.get("@odata.nextLink", "")
    assert found == ["c", "b", "a", "a", None]
    assert len(made) == 5


@pytest.mark.parametrize("accept", ["text/plain;q=0.9", "text/plain", "application/json", "*/*", "image/png"])
async def test_a_count_is_a_bare_number_whatever_is_accepted(api: Api, accept: str) -> None:
    for context in ("a", "b", "b"):
        await api.created(clientContext=context)
    answer = await api.get(f"/v1.0{COLLECTION}/$count", headers={"Accept": accept})
    assert (answer.status, answer.body) == (200, b"3")
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_a_count_honours_filter_and_search_and_no_page(api: Api) -> None:
    for context in ("a", "b", "b c"):
        await api.created(clientContext=context)
    for query, number in [
        ("$filter=clientContext%20eq%20'b'", b"1"),
        ("search=b", b"2"),
        ("$filter=startswith(clientContext,'b')&$search=c", b"1"),
        ("$top=1&$skip=1&$orderby=id&custom=1", b"3"),
    ]:
        assert (await api.get(f"{COLLECTION}/$count?{query}")).body == number
    assert (await api.get(f"{COLLECTION.replace('call-1', 'nobody')}/$count")).body == b"0"
    assert (await api.get(f"{COLLECTION}/%24count")).body == b"3"


@pytest.mark.parametrize(
    ("query", "status", "target"),
    [
        ("$filter=status", 501, "$filter"),
        ("$filter=(", 400, "$filter"),
        ("$select=id", 501, "$select"),
        ("$expand=x", 501, "$expand"),
        ("$skiptoken=x", 501, "$skiptoken"),
        ("$top=x", 400, "$top"),
        ("$what=x", 400, "$what"),
    ],
)
async def test_a_count_refuses_what_it_does_not_serve(api: Api, query: str, status: int, target: str) -> None:
    answer = await api.get(f"{COLLECTION}/$count?{query}")
    assert (answer.status, answer.error["target"]) == (status, target)


async def test_a_count_needs_a_token_and_takes_no_other_method(api: Api) -> None:
    assert (await api.get(f"{COLLECTION}/$count", token=None)).status == 401
    assert (await api.request("HEAD", f"{COLLECTION}/$count")).status == 200


async def test_one_operation_is_read_with_a_selection(api: Api) -> None:
    made = await api.created(clientContext="x", own=1)
    for select in ("$select=id,own", "select=own,id"):
        answer = await api.get(f"/v1.0{COLLECTION}/{made['id']}?{select}")
        assert answer.json["@odata.context"].endswith("/operations(" + select.partition("=")[2] + ")/$entity")
        assert {name: value for name, value in answer.json.items() if name[0] != "@"} == {"id": made["id"], "own": 1}
        assert answer.headers["ETag"] == 'W/"1"'
    answer = await api.get(f"{COLLECTION}/{made['id']}?$select=5")
    assert (answer.status, answer.error["target"]) == (400, "$select")


@pytest.mark.parametrize("bytes_", ["%FF", "%ED%A0%80", "%00", "%F0%9F%98%80", "%0A"])
@pytest.mark.parametrize(
    "query", ["$filter=clientContext%20eq%20'{}'", "$search=a{}", "$orderby=id{}", "$select=a{}", "$skiptoken={}"]
)
async def test_no_bytes_in_a_query_are_our_failure(api: Api, query: str, bytes_: str) -> None:
    await api.created(clientContext="a")
    answer = await api.get(f"{COLLECTION}?{query.format(bytes_)}")
    assert answer.status in {200, 400, 501}


async def test_options_are_refused_where_there_are_none(api: Api) -> None:
    operation = await api.created()
    assert (await api.get(f"{COLLECTION}/{operation['id']}?$top=1")).status == 501
    assert (await api.get(f"{COLLECTION}/{operation['id']}?$what=id")).status == 400
    assert (await api.post(f"{COLLECTION}?$expand=x", json={})).status == 501
    assert (await api.get(f"/operations/{operation['id']}?api-version=1")).status == 200


@pytest.mark.parametrize("literal", ["lt 9999-12-31T23:59:59-10:00", "gt 0001-01-01T00:00:00+10:00"])
async def test_a_date_time_that_utc_does_not_have_is_compared_and_paged(api: Api, literal: str) -> None:
    for _ in range(2):
        await api.created()
    first = await api.get(f"{filtered(f'createdDateTime {literal}')}&$top=1")
    assert (first.status, len(first.json["value"])) == (200, 1)
    second = await api.get(first.json["@odata.nextLink"])
    assert (second.status, len(second.json["value"])) == (200, 1)


async def test_a_status_without_quotes_is_refused_with_a_hint(api: Api) -> None:
    answer = await api.get(filtered("status eq Running"))
    assert (answer.status, answer.error["target"]) == (400, "$filter")
    assert "'Running'" in answer.error["message"]
    assert "position 11" in answer.error["message"]
