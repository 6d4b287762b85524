"""Google's own operations client against a running `tracker dev`."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.api_core import exceptions, operation
from google.api_core.operations_v1 import AbstractOperationsClient
from google.api_core.operations_v1.transports.rest import OperationsRestTransport
from google.oauth2.credentials import Credentials
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2

from tests.support.dev_stack import TOKEN, Client, Dev, running_dev
from tests.support.waiting import LONGEST_WAIT

MEDIA = Path(__file__).parents[4] / "examples" / "media"
PLAY = "#microsoft.graph.playPromptOperation"
CALL = "a call/100%"
"""A call's id that needs care in a name and in a path."""
PARENT = f"calls/{quote(CALL, safe='')}"
SHORT_NAMES = {
    f"google.longrunning.Operations.{method}": [{"method": verb, "uri": "/google/{name=operations/*}"}]
    for method, verb in (("GetOperation", "get"), ("DeleteOperation", "delete"))
}
SHORT_NAMES["google.longrunning.Operations.CancelOperation"] = [
    {"method": "post", "uri": "/google/{name=operations/*}:cancel", "body": "*"}
]
"""The paths of operations that are named without their call, as a service tells them to the client."""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    directory = tmp_path_factory.mktemp("google") / "data"
    with running_dev(directory, "--workers", "1", TRACKER_MEDIA_DIR=str(MEDIA)) as started:
        yield started


@pytest.fixture
def client(dev: Dev) -> AbstractOperationsClient:
    return open_client(dev, path_prefix="google")


def open_client(dev: Dev, **options: Any) -> AbstractOperationsClient:
    transport = OperationsRestTransport(host=dev.url, credentials=Credentials(TOKEN), url_scheme="http", **options)
    return AbstractOperationsClient(transport=transport)


def create(dev: Dev, **body: Any) -> str:
    status, made = Client(dev.url)("POST", f"/communications/{PARENT}/operations", body)
    assert status == 201
    return str(made["id"])


def prompt(name: str, **more: Any) -> dict[str, Any]:
    return {"@odata.type": PLAY, "prompts": [{"mediaInfo": {"uri": name}}], **more}


def future(client: AbstractOperationsClient, name: str) -> operation.Operation:
    found, kind = client.get_operation(name), struct_pb2.Struct
    return operation.from_gapic(found, client, kind, metadata_type=kind)


def test_an_operation_is_polled_to_its_result(dev: Dev, client: AbstractOperationsClient) -> None:
    name = f"{PARENT}/operations/{create(dev, **prompt('welcome.wav'), clientContext='mine')}"
    waiting = future(client, name)
    assert not waiting.done()
    assert waiting.result(timeout=LONGEST_WAIT)["completionReason"] == "completedSuccessfully"
    assert (waiting.operation.name, waiting.metadata["callId"]) == (name, CALL)
    assert (waiting.metadata["clientContext"], waiting.metadata["progressPercent"]) == ("mine", 100)


def test_a_failure_is_raised_as_its_class_and_has_the_numbers_of_its_result(
    dev: Dev, client: AbstractOperationsClient
) -> None:
    waiting = future(client, f"{PARENT}/operations/{create(dev, **prompt('nothing.wav'))}")
    with pytest.raises(exceptions.InvalidArgument, match=r"nothing\.wav") as failure:
        waiting.result(timeout=LONGEST_WAIT)
    told = error_details_pb2.ErrorInfo()
    assert failure.value.errors[0].details[0].Unpack(told)
    assert (told.domain, told.reason) == ("operation-tracker", "FAILED")
    assert dict(told.metadata) == {"code": "400", "subcode": "1103"}


def test_a_cancel_ends_an_operation_that_would_not_end(dev: Dev, client: AbstractOperationsClient) -> None:
    waiting = future(client, f"{PARENT}/operations/{create(dev, **prompt('welcome.wav', loop=True))}")
    assert waiting.cancel()
    with pytest.raises(exceptions.Cancelled):
        waiting.result(timeout=LONGEST_WAIT)
    assert waiting.cancelled()


def test_a_list_is_paged_to_its_end(dev: Dev, client: AbstractOperationsClient) -> None:
    made = [f"{PARENT}/operations/{create(dev)}" for _ in range(5)]
    listed = [item.name for item in client.list_operations(PARENT, "", page_size=2)]
    assert listed[:5] == made[::-1]
    assert len(listed) == len(set(listed))
    with pytest.raises(exceptions.MethodNotImplemented):
        client.list_operations(PARENT, "done=true")


def test_a_deleted_operation_is_not_found(dev: Dev, client: AbstractOperationsClient) -> None:
    name = f"{PARENT}/operations/{create(dev)}"
    client.delete_operation(name)
    for missing in (name, f"{PARENT}/operations/never"):
        with pytest.raises(exceptions.NotFound):
            client.get_operation(missing)


def test_an_operation_needs_no_call_in_its_name(dev: Dev) -> None:
    client = open_client(dev, http_options=SHORT_NAMES)
    name = f"operations/{create(dev, **prompt('welcome.wav', loop=True))}"
    waiting = future(client, name)
    assert waiting.operation.name == name
    assert waiting.cancel()
    with pytest.raises(exceptions.Cancelled):
        waiting.result(timeout=LONGEST_WAIT)
    client.delete_operation(name)


@pytest.mark.parametrize("parent", ["", f"{PARENT}/"])
def test_a_json_client_finds_the_operation_below_operations(dev: Dev, parent: str) -> None:
    """`from_http_json` asks for `operations/` and then the whole name."""

    def ask(method: str, path: str) -> Any:
        request = urllib.request.Request(f"{dev.url}/google/{path}", method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=LONGEST_WAIT) as answer:
            return json.load(answer)

    first = ask("GET", f"{parent}operations/{create(dev, **prompt('welcome.wav', loop=True))}")
    waiting = operation.from_http_json(first, ask, struct_pb2.Struct)
    assert waiting.cancel()
    with pytest.raises(exceptions.Cancelled):
        waiting.result(timeout=LONGEST_WAIT)
