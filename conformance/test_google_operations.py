"""google-api-core's operations client against the tracker: `google.longrunning` over REST."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from google.api_core import operation as futures
from google.api_core.exceptions import Cancelled, InvalidArgument, NotFound
from google.api_core.operations_v1 import AbstractOperationsClient, OperationsRestTransport
from google.oauth2.credentials import Credentials
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo

from tests.support.dev_stack import TOKEN, Client, Dev

TIMED = "#conformance.timedOperation"
PATIENCE = 20
"""The longest time in seconds until an operation ends. An operation of these tests takes less than one second."""
Begin = Callable[..., futures.Operation]


@pytest.fixture
def client(dev: Dev) -> Iterator[AbstractOperationsClient]:
    """The client as Google's libraries use it, with the tracker's address, token and path prefix."""
    transport = OperationsRestTransport(host=dev.url, path_prefix="google", credentials=Credentials(TOKEN))
    with transport._session:
        yield AbstractOperationsClient(transport=transport)


@pytest.fixture
def parent(call: str) -> str:
    """The resource name of the call. The call's own name is percent-encoded in it."""
    return f"calls/{quote(call, safe='')}"


@pytest.fixture
def begin(dev: Dev, call: str, parent: str, client: AbstractOperationsClient) -> Begin:
    """A function that creates an operation and returns Google's future for the operation."""

    def begin(**members: Any) -> futures.Operation:
        path = f"/communications/calls/{quote(call, safe='')}/operations"
        status, created = Client(dev.url)("POST", path, {"@odata.type": TIMED, "id": str(uuid4()), **members})
        assert status == 201, created
        first = client.get_operation(f"{parent}/operations/{created['id']}")
        return futures.from_gapic(first, client, Struct, metadata_type=Struct)

    return begin


def test_a_future_ends_with_the_operation_itself(begin: Begin) -> None:
    future = begin(seconds=0.8, clientContext="mine")

    assert not future.done()
    result = MessageToDict(future.result(PATIENCE))

    assert (result["status"], result["clientContext"]) == ("Completed", "mine")
    assert result["resultInfo"]["message"] == "Time has passed."
    assert future.done()
    assert MessageToDict(future.metadata)["progressPercent"] == 100


def test_a_future_raises_googles_error_for_a_failure(begin: Begin) -> None:
    future = begin(fails="The tape is blank.")

    with pytest.raises(InvalidArgument, match="The tape is blank") as failed:
        future.result(PATIENCE)

    info = ErrorInfo()
    assert failed.value.errors[0].details[0].Unpack(info)
    assert (info.metadata["code"], info.metadata["subcode"]) == ("400", "7")


def test_a_future_cancels_its_operation(begin: Begin) -> None:
    future = begin(seconds=60)

    assert future.cancel()

    with pytest.raises(Cancelled):
        future.result(PATIENCE)
    assert future.cancelled()


def test_a_call_is_listed_page_by_page(begin: Begin, client: AbstractOperationsClient, parent: str) -> None:
    names = [begin(seconds=0).operation.name for _ in range(5)]

    pages = client.list_operations(name=parent, filter_="", page_size=2)

    assert [operation.name for operation in pages] == names[::-1]


def test_a_deleted_operation_is_not_found(begin: Begin, client: AbstractOperationsClient) -> None:
    name = begin(seconds=0).operation.name

    client.delete_operation(name)

    with pytest.raises(NotFound):
        client.get_operation(name)


def test_wait_answers_when_the_operation_has_ended(begin: Begin, client: AbstractOperationsClient) -> None:
    """Google's REST client has no method for `:wait`, so the test sends the request by the client's session."""
    transport = client._transport
    name = begin(seconds=0.4).operation.name

    answer = transport._session.post(f"{transport._host}/google/{quote(name)}:wait", json={"timeout": "10s"})

    assert answer.status_code == 200, answer.text
    assert answer.json()["done"] is True
