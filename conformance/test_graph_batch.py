"""Microsoft's `msgraph-core` against the tracker: JSON batches."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from kiota_serialization_json.json_parse_node import JsonParseNode
from msgraph_beta import GraphServiceClient
from msgraph_beta.generated.communications.calls.item.operations.operations_request_builder import (
    OperationsRequestBuilder,
)
from msgraph_beta.generated.models.comms_operation import CommsOperation
from msgraph_beta.generated.models.comms_operation_collection_response import CommsOperationCollectionResponse
from msgraph_beta.generated.models.o_data_errors.o_data_error import ODataError
from msgraph_core.requests.batch_request_builder import BatchRequestBuilder
from msgraph_core.requests.batch_request_content import BatchRequestContent
from msgraph_core.requests.batch_request_content_collection import BatchRequestContentCollection
from msgraph_core.requests.batch_request_item import BatchRequestItem
from msgraph_core.requests.batch_response_content import BatchResponseContent

from conformance.graph import asking, graph, operations_of
from tests.support.dev_stack import Dev


@pytest.fixture(params=["/beta/", "/v1.0", ""])
async def client(dev: Dev, request: pytest.FixtureRequest) -> AsyncIterator[GraphServiceClient]:
    async with graph(f"{dev.url}{request.param}") as opened:
        yield opened


@pytest.fixture
def operations(client: GraphServiceClient, call: str) -> OperationsRequestBuilder:
    return operations_of(client, call)


@dataclass(frozen=True)
class Answers:
    """The answer to a batch: the statuses as the SDK reads them, and the bodies as the tracker sent them.

    The bodies are kept apart, because msgraph-core 1.5 reads only bodies in base64. It loses JSON objects, the form in
    which Graph sends bodies.
    """

    content: BatchResponseContent
    bodies: dict[str, Any]

    @property
    def statuses(self) -> dict[str, int]:
        return self.content.get_response_status_codes()

    def read(self, name: str, kind: type[Any]) -> Any:
        """The body of one part as an object of the SDK."""
        return JsonParseNode(self.bodies[name]).get_object_value(kind)


async def send(client: GraphServiceClient, *items: BatchRequestItem) -> Answers:
    adapter = client.request_adapter
    content = BatchRequestContent({item.id: item for item in items})
    request = await BatchRequestBuilder(adapter).to_post_request_information(content)
    answer = json.loads(await adapter.send_primitive_async(request, "bytes", {"XXX": ODataError}))
    read = JsonParseNode(answer).get_object_value(BatchResponseContent)
    return Answers(read, {item["id"]: item.get("body") for item in answer["responses"]})


def creation(operations: OperationsRequestBuilder, name: str, **members: Any) -> BatchRequestItem:
    return BatchRequestItem(operations.to_post_request_information(CommsOperation(**members)), id=name)


async def test_twenty_creates_go_as_one_request(
    client: GraphServiceClient, operations: OperationsRequestBuilder
) -> None:
    names = [f"create-{number}" for number in range(20)]

    answers = await send(client, *(creation(operations, name, client_context=name) for name in names))

    assert answers.statuses == dict.fromkeys(names, 201)
    for name in names:
        assert answers.read(name, CommsOperation).client_context == name
    assert await operations.count.get() == 20


async def test_a_batch_mixes_reads_lists_counts_and_writes(
    client: GraphServiceClient, operations: OperationsRequestBuilder
) -> None:
    stored = await operations.post(CommsOperation(client_context="stored"))
    item = operations.by_comms_operation_id(stored.id)

    answers = await send(
        client,
        BatchRequestItem(item.to_get_request_information(), id="read"),
        BatchRequestItem(operations.to_get_request_information(), id="list"),
        BatchRequestItem(operations.count.to_get_request_information(), id="count"),
        BatchRequestItem(item.to_patch_request_information(CommsOperation(client_context="changed")), id="patch"),
        BatchRequestItem(item.to_delete_request_information(asking(If_Match='W/"0"')), id="delete"),
        BatchRequestItem(operations.by_comms_operation_id("nobody").to_get_request_information(), id="missing"),
    )

    statuses = {"read": 200, "list": 200, "count": 200, "patch": 200, "delete": 412, "missing": 404}
    assert answers.statuses == statuses
    assert answers.read("read", CommsOperation).id == stored.id
    assert [item.id for item in answers.read("list", CommsOperationCollectionResponse).value] == [stored.id]
    error = answers.read("missing", ODataError).error
    assert (error.code, bool(error.inner_error.request_id)) == ("notFound", True)


async def test_a_request_waits_for_those_it_depends_on(
    client: GraphServiceClient, operations: OperationsRequestBuilder
) -> None:
    name = str(uuid4())
    item = operations.by_comms_operation_id(name)
    create = creation(operations, "1", id=name, client_context="first")
    read = BatchRequestItem(item.to_get_request_information(), id="2", depends_on=[create])
    delete = BatchRequestItem(item.to_delete_request_information(), id="3", depends_on=[read])

    answers = await send(client, create, read, delete)

    assert answers.statuses == {"1": 201, "2": 200, "3": 204}
    assert answers.read("2", CommsOperation).client_context == "first"


async def test_what_depends_on_a_failure_is_not_done(
    client: GraphServiceClient, operations: OperationsRequestBuilder
) -> None:
    refused = creation(operations, "1", client_context="x" * 257)
    dependent = creation(operations, "2", client_context="never")
    dependent.set_depends_on([refused])
    unrelated = creation(operations, "3", client_context="done")

    answers = await send(client, refused, dependent, unrelated)

    assert answers.statuses == {"1": 400, "2": 424, "3": 201}
    assert answers.read("2", ODataError).error.code == "failedDependency"
    assert await operations.count.get() == 1


async def test_more_than_twenty_go_in_several_batches(
    client: GraphServiceClient, operations: OperationsRequestBuilder
) -> None:
    collection = BatchRequestContentCollection()
    for number in range(45):
        collection.add_batch_request_item(creation(operations, f"create-{number}"))

    await BatchRequestBuilder(client.request_adapter).post(collection, {"XXX": ODataError})

    assert await operations.count.get() == 45
