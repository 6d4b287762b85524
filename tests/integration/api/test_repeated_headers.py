"""Headers that come twice in one request."""

import pytest

from tests.support.api_client import COLLECTION, Api

TOKEN = "Authorization: Bearer test-token"


async def status(api: Api, *headers: str, method: str = "POST", path: str = COLLECTION, body: str = "{}") -> int:
    given = {header.partition(":")[0].lower() for header in headers}
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
    defaults = ["Host: x", TOKEN, "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [line for line in defaults if line.partition(":")[0].lower() not in given]
    answer = await api.raw("\r\n".join([*lines, "", body]).encode())
    return int(answer.split(b" ")[1])


@pytest.mark.parametrize(
    "headers",
    [
        (TOKEN, TOKEN),
        (TOKEN, "Authorization: Bearer wrong"),
        ("Authorization: Bearer wrong", TOKEN),
        (TOKEN, "authorization:"),
        ("Host: x", "Host: x"),
        ("Content-Length: 2", "Content-Length: 2"),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Type: application/json", "Content-Type: application/json"),
        ("Content-Type: application/json", "Content-Type: text/plain"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("OData-Version: 4.0", "OData-Version: 4.0"),
        ("OData-Version: 4.0", "OData-Version: 3.0"),
        ("OData-MaxVersion: 4.0", "OData-MaxVersion: 4.01"),
        ("Idempotency-Key: a", "Idempotency-Key: a"),
        ("Idempotency-Key: a", "Operation-Id: a"),
        ("Operation-Id: a", "Operation-Id: b"),
    ],
)
async def test_a_header_that_decides_something_and_is_no_list_may_come_once(api: Api, headers: tuple[str, str]) -> None:
    assert await status(api, *headers) == 400
    assert (await api.get(COLLECTION)).json["value"] == []


async def test_a_stream_is_resumed_from_one_position(api: Api) -> None:
    headers = ("Last-Event-ID: 1-0", "Last-Event-ID: 2-0", "Accept: text/event-stream")
    assert await status(api, *headers, method="GET", path="/events", body="") == 400


async def test_encodings_in_two_lines_are_one_list(api: Api) -> None:
    assert await status(api, "Content-Encoding: identity", "Content-Encoding: gzip") == 415


@pytest.mark.parametrize(
    "headers",
    [
        ("Accept: text/html", "Accept: application/json"),
        ("Prefer: return=minimal", "Prefer: respond-async"),
        ('If-None-Match: "a"', 'If-None-Match: "b"'),
        ("client-request-id: a", "client-request-id: b"),
    ],
)
async def test_a_list_may_come_in_several_lines(api: Api, headers: tuple[str, str]) -> None:
    assert await status(api, *headers) in {201, 202, 204}


async def test_a_part_of_a_batch_has_a_header_once_whatever_its_case(api: Api) -> None:
    headers = {"OData-Version": "4.0", "odata-version": "4.01"}
    types = {"Content-Type": "application/json", "content-type": "text/plain"}
    requests = [
        {"id": str(number), "method": "POST", "url": COLLECTION, "body": {}, "headers": sent}
        for number, sent in enumerate((headers, types))
    ]
    answer = await api.post("/$batch", json={"requests": requests})
    assert [part["status"] for part in answer.json["responses"]] == [400, 400]
