"""Microsoft's `msgraph-beta-sdk` against the tracker: creates, reads, changes, cancels and deletes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from msgraph_beta.generated.communications.calls.item.operations.operations_request_builder import (
    OperationsRequestBuilder,
)
from msgraph_beta.generated.communications.calls.item.play_prompt.play_prompt_post_request_body import (
    PlayPromptPostRequestBody,
)
from msgraph_beta.generated.models.comms_operation import CommsOperation
from msgraph_beta.generated.models.media_info import MediaInfo
from msgraph_beta.generated.models.media_prompt import MediaPrompt
from msgraph_beta.generated.models.o_data_errors.o_data_error import ODataError
from msgraph_beta.generated.models.operation_status import OperationStatus
from msgraph_beta.generated.models.play_prompt_completion_reason import PlayPromptCompletionReason
from msgraph_beta.generated.models.play_prompt_operation import PlayPromptOperation
from msgraph_beta.generated.models.result_info import ResultInfo

from conformance.busy import Busy, busy_before
from conformance.graph import Seen, asking, graph, operations_of
from tests.support.dev_stack import Dev

if TYPE_CHECKING:
    from kiota_abstractions.base_request_configuration import RequestConfiguration


@pytest.fixture
async def operations(dev: Dev, call: str) -> AsyncIterator[OperationsRequestBuilder]:
    """The operations of a call, with the SDK's usual base URL. It ends with a slash, so the SDK sends `/beta//…`."""
    async with graph(f"{dev.url}/beta/") as client:
        yield operations_of(client, call)


@pytest.fixture
async def busy(dev: Dev) -> AsyncIterator[Busy]:
    async with busy_before(dev.url) as before:
        yield before


@pytest.fixture
async def through_busy(busy: Busy, call: str) -> AsyncIterator[OperationsRequestBuilder]:
    """The operations of a call, through the proxy that stands for a busy service."""
    async with graph(f"{busy.url}/beta/") as client:
        yield operations_of(client, call)


async def ended(operations: OperationsRequestBuilder, name: str) -> CommsOperation:
    """Read the operation with `Prefer: wait` until it has ended."""
    item = operations.by_comms_operation_id(name)
    while True:
        operation = await item.get(asking(None, Prefer="wait=5"))
        if operation.status in {OperationStatus.Completed, OperationStatus.Failed}:
            return operation


@pytest.mark.parametrize("prefix", ["/beta/", "/beta", "/v1.0/", "/v1.0", "/", ""])
async def test_an_operation_is_created_and_read_under_every_base_url(dev: Dev, call: str, prefix: str) -> None:
    before = datetime.now(UTC)
    result = ResultInfo(code=4, subcode=7, message="Message value", odata_type="microsoft.graph.ResultInfo")

    async with graph(f"{dev.url}{prefix}") as client:
        operations = operations_of(client, call)
        created = await operations.post(CommsOperation(client_context="my context", result_info=result))
        read = await ended(operations, created.id)

    UUID(created.id)
    assert created.odata_type == "#microsoft.graph.commsOperation"
    assert created.status is OperationStatus.NotStarted
    assert (created.result_info.code, created.result_info.subcode) == (4, 7)
    assert read.status is OperationStatus.Completed
    assert read.client_context == "my context"
    assert (read.result_info.code, read.result_info.message) == (200, "Action completed successfully.")
    assert abs(read.additional_data["createdDateTime"] - before) < timedelta(seconds=10)


async def test_a_derived_type_comes_back_as_its_own_class(operations: OperationsRequestBuilder) -> None:
    prompt = {"mediaInfo": {"uri": "https://unknown.invalid/prompt.wav", "resourceId": "1"}}
    typed = PlayPromptOperation(odata_type="#microsoft.graph.playPromptOperation")
    typed.additional_data = {"prompts": [{"@odata.type": "#microsoft.graph.mediaPrompt", **prompt}]}

    created = await operations.post(typed)
    read = await ended(operations, created.id)

    assert isinstance(created, PlayPromptOperation)
    assert isinstance(read, PlayPromptOperation)
    assert read.status is OperationStatus.Failed
    assert read.result_info.code == 400


async def test_an_action_of_graph_makes_an_operation_of_its_type(dev: Dev, call: str) -> None:
    prompt = MediaPrompt(media_info=MediaInfo(uri="welcome.wav", resource_id=str(uuid4())))
    seen = Seen()

    async with graph(f"{dev.url}/beta/") as client:
        action = client.communications.calls.by_call_id(call).play_prompt
        body = PlayPromptPostRequestBody(prompts=[prompt], loop=False, client_context="play it")
        made = await action.post(body, asking(None, seen.option))
        read = await ended(operations_of(client, call), made.id)

    assert isinstance(made, PlayPromptOperation)
    assert made.client_context == "play it"
    assert seen["Location"].endswith(f"/operations/{made.id}")
    assert read.status is OperationStatus.Completed
    assert read.completion_reason is PlayPromptCompletionReason.CompletedSuccessfully


async def test_members_that_graph_does_not_know_are_kept(operations: OperationsRequestBuilder) -> None:
    operation = CommsOperation()
    operation.additional_data = {"color": "blue", "size": {"x": 1, "y": [True, None, 0.5]}}

    created = await operations.post(operation)
    read = await operations.by_comms_operation_id(created.id).get()

    assert read.additional_data["color"] == "blue"
    assert read.additional_data["attempt"] >= 0


async def test_an_id_of_the_clients_own_makes_a_create_repeatable(operations: OperationsRequestBuilder) -> None:
    wanted = CommsOperation(id=str(uuid4()), client_context="once")

    first, second = await operations.post(wanted), await operations.post(wanted)

    assert first.id == second.id == wanted.id
    assert await operations.count.get() == 1
    with pytest.raises(ODataError) as refused:
        await operations.post(CommsOperation(id=wanted.id, client_context="another"))
    assert refused.value.response_status_code == 409


async def test_a_fetched_operation_is_changed_and_sent_back(operations: OperationsRequestBuilder) -> None:
    created = await operations.post(CommsOperation(client_context="before"))
    fetched = await ended(operations, created.id)
    item = operations.by_comms_operation_id(created.id)
    fetched.client_context = "after"
    fetched.additional_data["color"] = "blue"

    changed = await item.patch(fetched)

    assert changed.client_context == "after"
    assert changed.status is OperationStatus.Completed
    read = await item.get()
    assert (read.client_context, read.additional_data["color"]) == ("after", "blue")
    assert read.result_info.code == 200


async def test_a_patch_of_what_changed_meanwhile_is_refused(operations: OperationsRequestBuilder) -> None:
    created = await operations.post(CommsOperation(client_context="one"))
    await ended(operations, created.id)
    item, seen = operations.by_comms_operation_id(created.id), Seen()
    await item.get(asking(None, seen.option))
    stale = seen["ETag"]

    await item.patch(CommsOperation(client_context="two"), asking(If_Match=stale))

    with pytest.raises(ODataError) as refused:
        await item.patch(CommsOperation(client_context="three"), asking(If_Match=stale))
    assert (refused.value.response_status_code, refused.value.error.code) == (412, "preconditionFailed")
    assert (await item.get()).client_context == "two"


async def test_a_delete_needs_the_current_etag_where_one_is_given(operations: OperationsRequestBuilder) -> None:
    created = await operations.post(CommsOperation())
    await ended(operations, created.id)
    item, seen = operations.by_comms_operation_id(created.id), Seen()
    await item.get(asking(None, seen.option))

    with pytest.raises(ODataError) as refused:
        await item.delete(asking(If_Match='W/"0"'))
    assert (refused.value.response_status_code, refused.value.error.code) == (412, "preconditionFailed")
    await item.delete(asking(If_Match=seen["ETag"]))

    with pytest.raises(ODataError) as missed:
        await item.get()
    assert (missed.value.response_status_code, missed.value.error.code) == (410, "gone")


async def test_a_delete_without_an_etag_hides_the_operation(operations: OperationsRequestBuilder) -> None:
    created = await operations.post(CommsOperation())

    assert await operations.by_comms_operation_id(created.id).delete() is None

    assert await operations.count.get() == 0


async def test_an_error_is_an_odata_error_with_the_ids_of_the_request(operations: OperationsRequestBuilder) -> None:
    seen, mine = Seen(), "0f9c2c1e-5a3b-4f5e-8a59-0d0b0a1f7c11"
    config: RequestConfiguration = asking(None, seen.option, client_request_id=mine)

    with pytest.raises(ODataError) as missed:
        await operations.by_comms_operation_id("nobody-made-this").get(config)

    error = missed.value
    assert error.response_status_code == 404
    assert error.error.code == "notFound"
    assert "nobody-made-this" in error.error.message
    assert error.primary_message == error.error.message
    UUID(error.error.inner_error.request_id)
    assert error.error.inner_error.request_id == seen["request-id"]
    assert error.error.inner_error.client_request_id == mine
    assert datetime.now(UTC) - error.error.inner_error.date < timedelta(minutes=1)


async def test_a_refused_body_names_its_member(operations: OperationsRequestBuilder) -> None:
    with pytest.raises(ODataError) as refused:
        await operations.post(CommsOperation(client_context="x" * 257))

    error = refused.value.error
    assert (error.code, error.target) == ("badRequest", "clientContext")
    assert [detail.target for detail in error.details] == ["clientContext"]


async def test_the_sdk_asks_again_after_429_503_and_504(busy: Busy, through_busy: OperationsRequestBuilder) -> None:
    busy.refuse(429, 503, 504)

    created = await through_busy.post(CommsOperation(client_context="patient"))

    assert busy.answered == [429, 503, 504, 201]
    assert (await through_busy.by_comms_operation_id(created.id).get()).client_context == "patient"


@pytest.mark.parametrize("named", ["by its id", "by its Idempotency-Key"])
async def test_a_create_whose_answer_was_lost_makes_one_operation(
    busy: Busy, through_busy: OperationsRequestBuilder, named: str
) -> None:
    by_id = named == "by its id"
    wanted = CommsOperation(id=str(uuid4()) if by_id else None, client_context="once")
    busy.refuse(503, 504, lose=True)

    created = await through_busy.post(wanted, asking() if by_id else asking(Idempotency_Key=f'"{uuid4()}"'))

    assert len(busy.answered) == 3
    assert [item.id for item in (await through_busy.get()).value] == [created.id]
