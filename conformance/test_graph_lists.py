"""Microsoft's `msgraph-beta-sdk` against the tracker: lists, with filters, order, search, counts and pages."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from msgraph_beta.generated.communications.calls.item.operations.count.count_request_builder import CountRequestBuilder
from msgraph_beta.generated.communications.calls.item.operations.item.comms_operation_item_request_builder import (
    CommsOperationItemRequestBuilder,
)
from msgraph_beta.generated.communications.calls.item.operations.operations_request_builder import (
    OperationsRequestBuilder,
)
from msgraph_beta.generated.models.comms_operation import CommsOperation
from msgraph_beta.generated.models.comms_operation_collection_response import CommsOperationCollectionResponse
from msgraph_beta.generated.models.o_data_errors.o_data_error import ODataError
from msgraph_beta.generated.models.operation_status import OperationStatus
from msgraph_core.tasks.page_iterator import PageIterator

from conformance.busy import busy_before
from conformance.graph import Query, asking, graph, operations_of
from tests.support.dev_stack import Dev

MANY = 250
"""How many operations the call of the paging tests has."""
CONTEXTS = ["red apple", "green apple", "red pear", "it's a fig", "green grape"]
"""The `clientContext` of each operation in the shared call, in the order of the creates. All have completed."""
ItemQuery = CommsOperationItemRequestBuilder.CommsOperationItemRequestBuilderGetQueryParameters
CountQuery = CountRequestBuilder.CountRequestBuilderGetQueryParameters


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fruit(dev: Dev) -> AsyncIterator[OperationsRequestBuilder]:
    """The shared call. The tests only read it."""
    async with graph(f"{dev.url}/beta/") as client:
        operations = operations_of(client, "fruit")
        for context in CONTEXTS:
            created = await operations.post(CommsOperation(client_context=context))
            item = operations.by_comms_operation_id(created.id)
            while (await item.get(asking(Prefer="wait=5"))).status is not OperationStatus.Completed:
                pass
        yield operations


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def many(dev: Dev) -> AsyncIterator[OperationsRequestBuilder]:
    """A call of `MANY` operations."""
    async with graph(f"{dev.url}/v1.0") as client:
        operations = operations_of(client, "many")
        for number in range(MANY):
            await operations.post(CommsOperation(client_context=f"number {number:03}"))
        yield operations


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def contexts(operations: OperationsRequestBuilder, **options: Any) -> list[str]:
    page = await operations.get(asking(Query(**options)))
    return [item.client_context for item in page.value]


async def all_pages(
    operations: OperationsRequestBuilder, first: CommsOperationCollectionResponse
) -> list[CommsOperation]:
    """All operations that the SDK's page iterator visits, from the first page on."""
    met: list[CommsOperation] = []

    def meet(operation: CommsOperation) -> bool:
        met.append(operation)
        return True

    pages = PageIterator(first, operations.request_adapter, error_mapping={"XXX": ODataError})
    await pages.iterate(meet)
    return met


async def test_a_list_is_newest_first(fruit: OperationsRequestBuilder) -> None:
    assert await contexts(fruit) == CONTEXTS[::-1]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("clientContext eq 'red apple'", {0}),
        ("clientContext eq 'it''s a fig'", {3}),
        ("clientContext ne 'red apple'", {1, 2, 3, 4}),
        ("startswith(clientContext,'green')", {1, 4}),
        ("endswith(clientContext,'apple')", {0, 1}),
        ("contains(clientContext,'a') and not startswith(clientContext,'red')", {1, 3, 4}),
        ("(clientContext eq 'red apple' or clientContext eq 'red pear') and status eq 'Completed'", {0, 2}),
        ("clientContext in ('red pear','green grape','none')", {2, 4}),
        ("clientContext gt 'it' and clientContext le 'red apple'", {0, 3}),
        ("status eq microsoft.graph.operationStatus'completed'", {0, 1, 2, 3, 4}),
        ("status eq 'Failed'", set()),
        ("resultInfo/code eq 200 and resultInfo/subcode lt 1", {0, 1, 2, 3, 4}),
        ("resultInfo/code ge 400", set()),
        ("createdDateTime ge 2020-01-01T00:00:00Z and completedDateTime lt 2100-01-01T00:00:00Z", {0, 1, 2, 3, 4}),
        ("isof('microsoft.graph.commsOperation')", {0, 1, 2, 3, 4}),
        ("isof('microsoft.graph.playPromptOperation')", set()),
    ],
)
async def test_a_filter_finds_what_it_says(fruit: OperationsRequestBuilder, condition: str, found: set[int]) -> None:
    assert set(await contexts(fruit, filter=condition)) == {CONTEXTS[number] for number in found}
    assert await fruit.count.get(asking(CountQuery(filter=condition))) == len(found)


@pytest.mark.parametrize(
    ("order", "sorted_contexts"),
    [
        (["clientContext"], sorted(CONTEXTS)),
        (["clientContext desc"], sorted(CONTEXTS, reverse=True)),
        (["createdDateTime asc"], CONTEXTS),
        (["createdDateTime desc"], CONTEXTS[::-1]),
        (["status", "clientContext desc"], sorted(CONTEXTS, reverse=True)),
    ],
)
async def test_orderby_sorts(fruit: OperationsRequestBuilder, order: list[str], sorted_contexts: list[str]) -> None:
    assert await contexts(fruit, orderby=order) == sorted_contexts


async def test_skip_and_top_cut_a_page_out(fruit: OperationsRequestBuilder) -> None:
    page = await fruit.get(asking(Query(orderby=["createdDateTime"], skip=1, top=2, count=True)))

    assert [item.client_context for item in page.value] == CONTEXTS[1:3]
    assert page.odata_count == len(CONTEXTS)
    assert page.odata_next_link


async def test_select_leaves_the_other_members_out(fruit: OperationsRequestBuilder) -> None:
    page = await fruit.get(asking(Query(select=["id", "status"], top=1)))

    [item] = page.value
    assert item.id
    assert item.status is OperationStatus.Completed
    assert (item.client_context, item.result_info) == (None, None)
    assert not {"createdDateTime", "attempt"} & set(item.additional_data)


async def test_search_looks_into_the_context(fruit: OperationsRequestBuilder) -> None:
    assert set(await contexts(fruit, search="apple")) == {"red apple", "green apple"}
    assert await fruit.count.get(asking(CountQuery(search="pear"))) == 1


async def test_count_counts_before_paging(fruit: OperationsRequestBuilder) -> None:
    page = await fruit.get(asking(Query(count=True, top=1, filter="startswith(clientContext,'red')")))

    assert (page.odata_count, len(page.value)) == (2, 1)
    assert await fruit.count.get() == len(CONTEXTS)


@pytest.mark.parametrize(
    ("options", "status", "target"),
    [
        ({"expand": ["participants"]}, 501, "$expand"),
        ({"filter": "clientContext eq"}, 400, "$filter"),
        ({"filter": "color eq 'blue'"}, 501, "$filter"),
        ({"orderby": ["clientContext sideways"]}, 400, "$orderby"),
        ({"top": -1}, 400, "$top"),
        ({"skip": -1}, 400, "$skip"),
        ({"select": ["id, ,status"]}, 400, "$select"),
    ],
    ids=str,
)
async def test_an_option_that_cannot_be_served_is_an_error(
    fruit: OperationsRequestBuilder, options: dict[str, Any], status: int, target: str
) -> None:
    with pytest.raises(ODataError) as refused:
        await fruit.get(asking(Query(**options)))

    assert refused.value.response_status_code == status
    assert refused.value.error.target == target
    assert refused.value.error.code == {400: "badRequest", 501: "notImplemented"}[status]


@pytest.mark.parametrize(
    "options",
    [{"top": 20}, {"top": 60, "orderby": ["clientContext desc"]}, {"top": 17, "filter": "endswith(clientContext,'7')"}],
    ids=str,
)
async def test_the_page_iterator_meets_each_of_250_once(many: OperationsRequestBuilder, options: Any) -> None:
    first = await many.get(asking(Query(**options)))

    met = [operation.client_context for operation in await all_pages(many, first)]

    newest_first = [f"number {number:03}" for number in range(MANY)][::-1]
    assert met == [context for context in newest_first if "filter" not in options or context.endswith("7")]


async def test_paging_waits_out_a_busy_service(dev: Dev, many: OperationsRequestBuilder) -> None:
    assert await many.count.get() == MANY
    async with busy_before(dev.url) as busy, graph(f"{busy.url}/beta/") as client:
        operations = operations_of(client, "many")
        first = await operations.get(asking(Query(top=100)))
        busy.refuse(429, 503)

        met = {operation.id for operation in await all_pages(operations, first)}

    assert len(met) == MANY
    assert busy.answered == [429, 503, 200, 200], "the links lead through the proxy, too"


async def test_the_client_may_prefer_smaller_pages(fruit: OperationsRequestBuilder) -> None:
    page = await fruit.get(asking(None, Prefer="odata.maxpagesize=2"))

    assert len(page.value) == 2
    assert page.odata_next_link


async def test_one_operation_is_read_in_part(fruit: OperationsRequestBuilder) -> None:
    [newest] = (await fruit.get(asking(Query(top=1)))).value

    read = await fruit.by_comms_operation_id(newest.id).get(asking(ItemQuery(select=["id", "clientContext"])))

    assert (read.id, read.client_context) == (newest.id, CONTEXTS[-1])
    assert (read.status, read.result_info) == (None, None)


async def test_a_date_time_compares_to_the_microsecond(fruit: OperationsRequestBuilder) -> None:
    page = await fruit.get(asking(Query(orderby=["createdDateTime"], top=2)))
    second = page.value[1].additional_data["createdDateTime"]
    text = second.isoformat().replace("+00:00", "Z")
    after = (second + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")

    assert await contexts(fruit, filter=f"createdDateTime eq {text}") == [CONTEXTS[1]]
    assert len(await contexts(fruit, filter=f"createdDateTime lt {text}")) == 1
    assert len(await contexts(fruit, filter=f"createdDateTime ge {after}")) == len(CONTEXTS) - 2
