"""azure-core's pollers against the tracker: they follow `Operation-Location` until an operation ends."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from azure.core import AsyncPipelineClient, PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import AsyncRetryPolicy, HeadersPolicy, RequestIdPolicy, RetryPolicy
from azure.core.polling import AsyncLROPoller, LROPoller
from azure.core.polling.async_base_polling import AsyncLROBasePolling
from azure.core.polling.base_polling import LROBasePolling, OperationResourcePolling
from azure.core.rest import HttpRequest
from azure.mgmt.core.polling.arm_polling import ARMPolling

from conformance.busy import busy_before
from tests.support.dev_stack import TOKEN, Dev

TIMED = "#conformance.timedOperation"
PATIENCE = 20
"""The longest time in seconds until an operation ends. An operation of these tests takes less than one second."""
METHODS = [
    pytest.param(LROBasePolling, id="azure-core"),
    pytest.param(lambda **options: ARMPolling(lro_algorithms=[OperationResourcePolling()], **options), id="azure-mgmt"),
]


@pytest.fixture
def azure(dev: Dev) -> Iterator[PipelineClient]:
    """A client made as in Azure's generated code, with the tracker's token and azure-core's retries."""
    with PipelineClient(dev.url, policies=[*identity(), RetryPolicy()]) as client:
        yield client


def identity() -> list[Any]:
    """The policies that add the token and the request id."""
    return [RequestIdPolicy(), HeadersPolicy(base_headers={"Authorization": f"Bearer {TOKEN}"})]


def creation(url: str, call: str, **members: Any) -> HttpRequest:
    path = f"{url}/communications/calls/{quote(call, safe='')}/operations"
    return HttpRequest("POST", path, json={"@odata.type": TIMED, **members})


def begin(client: PipelineClient, method: Any, request: HttpRequest) -> LROPoller:
    """Create an operation, and return a poller as the `begin_…` methods of Azure's clients do."""
    first = client.send_request(request, _return_pipeline_response=True)
    first.http_response.raise_for_status()
    return LROPoller(client, first, lambda answer: answer.http_response.json(), method(timeout=1))


@pytest.mark.parametrize("method", METHODS)
def test_a_poller_ends_with_the_operation_itself(dev: Dev, azure: PipelineClient, call: str, method: Any) -> None:
    poller = begin(azure, method, creation(dev.url, call, seconds=0.8, clientContext="mine"))

    assert poller.status() in {"NotStarted", "Running"}
    assert not poller.done()
    operation = poller.result(PATIENCE)

    assert poller.status() == "Succeeded"
    assert (operation["status"], operation["clientContext"]) == ("Completed", "mine")
    assert operation["resultInfo"]["message"] == "Time has passed."


@pytest.mark.parametrize("method", METHODS)
def test_a_poller_raises_with_the_code_and_message_of_a_failure(
    dev: Dev, azure: PipelineClient, call: str, method: Any
) -> None:
    poller = begin(azure, method, creation(dev.url, call, fails="The tape is blank."))

    with pytest.raises(HttpResponseError) as failed:
        poller.result(PATIENCE)

    assert poller.status() == "Failed"
    assert failed.value.error is not None
    assert (failed.value.error.code, failed.value.error.message) == ("badRequest", "The tape is blank.")


@pytest.mark.parametrize("method", METHODS)
def test_a_canceled_operation_ends_its_poller(dev: Dev, azure: PipelineClient, call: str, method: Any) -> None:
    poller = begin(azure, method, creation(dev.url, call, seconds=60))
    first = poller.polling_method()._initial_response.http_response

    canceled = azure.send_request(HttpRequest("DELETE", first.headers["Operation-Location"]))

    assert canceled.status_code == 202
    with pytest.raises(HttpResponseError):
        poller.result(PATIENCE)
    assert poller.status() == "Canceled"


def test_a_poller_goes_on_from_its_continuation_token(dev: Dev, azure: PipelineClient, call: str) -> None:
    token = begin(azure, LROBasePolling, creation(dev.url, call, seconds=0.8)).continuation_token()

    poller = LROPoller.from_continuation_token(
        LROBasePolling(timeout=1),
        token,
        client=azure,
        deserialization_callback=lambda answer: answer.http_response.json(),
    )

    assert poller.result(PATIENCE)["status"] == "Completed"


@pytest.mark.parametrize(
    ("members", "ended"), [({"seconds": 0.8}, "Succeeded"), ({"fails": "The tape is blank."}, "Failed")]
)
async def test_the_asynchronous_poller_ends_too(dev: Dev, call: str, members: dict[str, Any], ended: str) -> None:
    async with AsyncPipelineClient(dev.url, policies=[*identity(), AsyncRetryPolicy()]) as client:
        first = await client.send_request(creation(dev.url, call, **members), _return_pipeline_response=True)
        poller = AsyncLROPoller(
            client, first, lambda answer: answer.http_response.json(), AsyncLROBasePolling(timeout=1)
        )
        if ended == "Succeeded":
            assert (await poller.result())["status"] == "Completed"
        else:
            with pytest.raises(HttpResponseError, match="The tape is blank"):
                await poller.result()
        assert poller.status() == ended


async def test_a_poller_waits_out_a_busy_service(dev: Dev, call: str) -> None:
    async with (
        busy_before(dev.url) as busy,
        AsyncPipelineClient(busy.url, policies=[*identity(), AsyncRetryPolicy()]) as client,
    ):
        first = await client.send_request(creation(busy.url, call, seconds=0.2), _return_pipeline_response=True)
        busy.refuse(429, 503)
        poller = AsyncLROPoller(
            client, first, lambda answer: answer.http_response.json(), AsyncLROBasePolling(timeout=1)
        )

        assert (await poller.result())["status"] == "Completed"

    assert busy.answered[:3] == [429, 503, 200]
