"""`/$batch` over real HTTP: its format, its order, and the requests that it refuses."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tests.support.waiting import eventually
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.events.hub import EventHub

CREATE: Json = {"method": "POST", "url": COLLECTION, "body": {"clientContext": "x"}}


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many requests are being held."""
    opened: list[EventHub] = []
    build = EventHub.__init__

    def remember(self: EventHub, *args: Any) -> None:
        opened.append(self)
        build(self, *args)

    monkeypatch.setattr(EventHub, "__init__", remember)
    return lambda: sum(len(changes) for events in opened for changes in events.changes.waiting.values())


def numbered(*requests: Json) -> list[Json]:
    return [{"id": str(number), **request} for number, request in enumerate(requests, 1)]


async def send(api: Api, *requests: Json, prefix: str = "", **kwargs: Any) -> Answer:
    return await api.post(f"{prefix}/$batch", json={"requests": numbered(*requests)}, **kwargs)


async def responses(api: Api, *requests: Json, **kwargs: Any) -> list[Json]:
    answer = await send(api, *requests, **kwargs)
    assert answer.status == 200, answer.body
    found: list[Json] = answer.json["responses"]
    assert [sorted(response) for response in found] == [["body", "headers", "id", "status"]] * len(requests)
    return found


async def only(api: Api, request: Json, **kwargs: Any) -> Json:
    return (await responses(api, request, **kwargs))[0]


@pytest.mark.parametrize("prefix", ["", "/v1.0", "/beta"])
async def test_requests_are_answered_in_their_order_below_the_batch_s_own_prefix(api: Api, prefix: str) -> None:
    found = await responses(api, CREATE, {"method": "get", "url": COLLECTION[1:]}, CREATE, prefix=prefix)
    assert [(response["id"], response["status"]) for response in found] == [("1", 201), ("2", 200), ("3", 201)]
    for response in (found[0], found[2]):
        assert response["headers"]["location"] == f"{api.url}{prefix}{COLLECTION}/{response['body']['id']}"
        assert all(name == name.lower() for name in response["headers"])
        assert (await api.get(response["headers"]["location"])).json == response["body"]


@pytest.mark.parametrize("url", ["/v1.0{path}", "{origin}/v1.0{path}", "{origin}/beta{path}", "{path}#part", "/{path}"])
async def test_a_url_may_be_absolute_and_name_the_version(api: Api, url: str) -> None:
    assert (await only(api, {**CREATE, "url": url.format(path=COLLECTION, origin=api.url)}))["status"] == 201


async def test_the_public_address_is_our_own(settings: Settings) -> None:
    async with open_api(settings, public_url="https://example.org/tracker") as api:
        url = f"https://example.org/tracker/v1.0{COLLECTION}"
        response = await only(api, {**CREATE, "url": url})
    assert (response["status"], response["headers"]["location"]) == (201, f"{url}/{response['body']['id']}")


@pytest.mark.parametrize("url", ["https://example.org/v1.0/x", "http://127.0.0.1:1{path}", "ftp://x", "http://"])
async def test_another_server_s_url_is_refused(api: Api, url: str) -> None:
    response = await only(api, {**CREATE, "url": url.format(path=COLLECTION)})
    assert (response["status"], response["body"]["error"]["target"]) == (400, "url")


async def test_a_url_may_hold_what_a_client_would_have_to_encode(api: Api) -> None:
    await responses(api, {**CREATE, "body": {"clientContext": "größer als"}}, CREATE)
    found = await only(api, {"method": "GET", "url": f"{COLLECTION}?$filter=clientContext eq 'größer als'"})
    assert [operation["clientContext"] for operation in found["body"]["value"]] == ["größer als"]


async def test_graph_s_python_client_is_understood(api: Api) -> None:
    """What msgraph-core 1.5 writes: absolute URLs, `depends_on` also when empty, lower-case headers."""
    headers = {"accept": "application/json"}
    batch = {
        "requests": [
            {
                "id": "1c5b1ad2-9d11-4a2b-8a8e-9b2b0e7b9a71",
                "method": "POST",
                "url": f"{api.url}/v1.0{COLLECTION}",
                "depends_on": [],
                "headers": {**headers, "content-type": "application/json"},
                "body": {"id": "mine", "clientContext": "x"},
            },
            {
                "id": "2",
                "method": "GET",
                "url": f"/v1.0{COLLECTION}/mine",
                "depends_on": ["1C5B1AD2-9D11-4A2B-8A8E-9B2B0E7B9A71"],
                "headers": headers,
            },
        ]
    }
    answer = await api.post("/v1.0/$batch", json=batch)
    created, read = answer.json["responses"]
    assert (created["status"], read["status"], read["body"]) == (201, 200, created["body"])


async def test_an_empty_object_may_be_in_base64_as_graph_s_python_client_writes_it(api: Api) -> None:
    assert (await only(api, {**CREATE, "body": "e30="}))["status"] == 201
    assert (await only(api, {**CREATE, "body": "eyJpZCI6ICJtaW5lIn0="}))["status"] == 400


async def test_members_that_are_null_are_absent(api: Api) -> None:
    absent = {"headers": None, "dependsOn": None, "depends_on": None, "atomicityGroup": None, "if": None}
    found = await responses(api, {**CREATE, **absent}, {"method": "GET", "url": COLLECTION, "body": None, **absent})
    assert [response["status"] for response in found] == [201, 200]


@pytest.mark.parametrize("name", ["dependsOn", "depends_on"])
async def test_what_depends_on_a_failure_is_not_run(api: Api, name: str) -> None:
    found = await responses(
        api,
        {"method": "GET", "url": f"{COLLECTION}/nothing"},
        {**CREATE, name: ["1"]},
        {**CREATE, name: ["2"]},
        {**CREATE, name: []},
        {**CREATE, name: ["4"]},
    )
    assert [response["status"] for response in found] == [404, 424, 424, 201, 201]
    assert found[1]["body"]["error"]["code"] == "failedDependency"
    assert found[1]["body"]["error"]["innerError"]["request-id"] == found[1]["headers"]["request-id"]
    assert len((await api.get(COLLECTION)).json["value"]) == 2


async def test_a_chain_is_run_one_after_another(api: Api) -> None:
    path = f"{COLLECTION}/mine"
    found = await responses(
        api,
        {**CREATE, "body": {"id": "mine"}},
        {"method": "POST", "url": f"{path}/cancel", "body": {"reason": "enough"}, "dependsOn": ["1"]},
        {"method": "GET", "url": path, "dependsOn": ["2"]},
        {"method": "DELETE", "url": path, "dependsOn": ["3"]},
        {"method": "GET", "url": path, "dependsOn": ["4"]},
    )
    assert [response["status"] for response in found] == [201, 202, 200, 204, 410]
    assert found[3]["body"] is None
    assert found[2]["body"]["status"] == "Failed"


@pytest.mark.parametrize(
    ("batch", "target"),
    [
        ({}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": [{**CREATE, "id": str(number)} for number in range(21)]}, "requests"),
        ({"requests": [1]}, "requests/0"),
        ({"requests": [CREATE]}, "requests/0/id"),
        ({"requests": [{**CREATE, "id": ""}]}, "requests/0/id"),
        ({"requests": [{**CREATE, "id": 1}]}, "requests/0/id"),
        ({"requests": [{**CREATE, "id": "a"}, {**CREATE, "id": "A"}]}, "requests/1/id"),
        ({"requests": [{"id": "1", "method": "GET"}]}, "requests/0/url"),
        ({"requests": [{"id": "1", "url": "/"}]}, "requests/0/method"),
        ({"requests": [{**CREATE, "id": "1", "method": None}]}, "requests/0/method"),
        ({"requests": [{**CREATE, "id": "1", "headers": []}]}, "requests/0/headers"),
        ({"requests": [{**CREATE, "id": "1", "headers": {"If-Match": 1}}]}, "requests/0/headers"),
        ({"requests": [{**CREATE, "id": "1", "dependsOn": "1"}]}, "requests/0/dependsOn"),
        ({"requests": [{**CREATE, "id": "1", "dependsOn": [1]}]}, "requests/0/dependsOn"),
        ({"requests": [{**CREATE, "id": "1", "dependsOn": ["1"]}]}, "requests/0/dependsOn"),
        ({"requests": [{**CREATE, "id": "1", "depends_on": ["2"]}, {**CREATE, "id": "2"}]}, "requests/0/depends_on"),
        ({"requests": [{**CREATE, "id": "1", "atomicityGroup": 1}]}, "requests/0/atomicityGroup"),
    ],
)
async def test_a_malformed_batch_is_refused_as_a_whole(api: Api, batch: Json, target: str) -> None:
    answer = await api.post("/$batch", json=batch)
    assert (answer.status, answer.error["target"]) == (400, target)
    assert (await api.get(COLLECTION)).json["value"] == []


async def test_every_fault_of_a_batch_is_named(api: Api) -> None:
    answer = await api.post("/$batch", json={"requests": [{"id": "1", "method": "GET", "url": "/x"}, {}]})
    assert [detail["target"] for detail in answer.error["details"]] == [
        "requests/1/id",
        "requests/1/method",
        "requests/1/url",
    ]


async def test_a_batch_is_json_and_needs_a_token(api: Api) -> None:
    assert (await api.post("/$batch", data=b"--x", headers={"Content-Type": "multipart/mixed"})).status == 415
    assert (await api.post("/$batch", json={"requests": numbered(CREATE)}, token=None)).status == 401
    assert (await send(api, CREATE, headers={"Accept": "text/html"})).status == 406
    assert (await api.get("/$batch")).headers["Allow"] == "OPTIONS,POST"


@pytest.mark.parametrize("url", ["/$batch", "/%24batch", "/beta/$batch"])
async def test_a_batch_in_a_batch_is_refused(api: Api, url: str) -> None:
    inner = {"method": "POST", "url": url, "body": {"requests": numbered(CREATE)}}
    found = await responses(api, inner, CREATE)
    assert [response["status"] for response in found] == [400, 201]
    assert len((await api.get(COLLECTION)).json["value"]) == 1


@pytest.mark.parametrize("member", [{"atomicityGroup": "g"}, {"if": "$1/$succeeded"}])
async def test_what_is_not_done_here_is_refused_clearly(api: Api, member: Json) -> None:
    found = await responses(api, {**CREATE, **member}, CREATE)
    assert [response["status"] for response in found] == [400, 201]
    assert found[0]["body"]["error"]["target"] == next(iter(member))
    assert len((await api.get(COLLECTION)).json["value"]) == 1


async def test_what_depends_on_an_atomicity_group_fails_with_it(api: Api) -> None:
    found = await responses(
        api, {**CREATE, "atomicityGroup": "g"}, {**CREATE, "atomicityGroup": "g"}, {**CREATE, "dependsOn": ["G"]}
    )
    assert [response["status"] for response in found] == [400, 400, 424]


async def test_a_request_s_own_headers_count_and_the_batch_s_where_it_has_none(api: Api) -> None:
    first, second = await responses(
        api,
        {"method": "GET", "url": COLLECTION, "headers": {"client-request-id": "mine", "odata-maxversion": "4.0"}},
        {"method": "GET", "url": COLLECTION},
        headers={"client-request-id": "outer", "OData-MaxVersion": "4.01"},
    )
    assert (first["headers"]["client-request-id"], first["headers"]["odata-version"]) == ("mine", "4.0")
    assert (second["headers"]["client-request-id"], second["headers"]["odata-version"]) == ("outer", "4.01")
    assert first["headers"]["request-id"] != second["headers"]["request-id"]


async def test_a_request_cannot_change_who_asks_or_where(api: Api) -> None:
    headers = {"Authorization": "Bearer other-token", "Host": "example.org", "X-Forwarded-Host": "example.org"}
    response = await only(api, {**CREATE, "headers": headers})
    assert response["headers"]["location"].startswith(api.url)
    assert (await api.get(response["headers"]["location"])).status == 200


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"": "x"}, {"Prefer": "a\r\nb: c"}, {"Prefer": "\x00"}])
async def test_headers_that_http_does_not_allow_are_refused(api: Api, headers: Json) -> None:
    found = await responses(api, {**CREATE, "headers": headers}, CREATE)
    assert [response["status"] for response in found] == [400, 201]
    assert found[0]["body"]["error"]["target"] == "headers"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "GET /x", "ſ"])
async def test_methods_that_odata_does_not_batch_are_refused(api: Api, method: str) -> None:
    response = await only(api, {"method": method, "url": COLLECTION})
    assert (response["status"], response["body"]["error"]["target"]) == (400, "method")


@pytest.mark.parametrize(
    ("asked", "applied"),
    [
        ("", None),
        ("continue-on-error=true", "continue-on-error"),
        ("odata.continue-on-error", "odata.continue-on-error"),
        ("continue-on-error=false", None),
    ],
)
async def test_all_requests_are_run_whatever_becomes_of_the_others(api: Api, asked: str, applied: str | None) -> None:
    answer = await send(api, {"method": "GET", "url": "/nothing"}, CREATE, headers={"Prefer": asked} if asked else {})
    assert [response["status"] for response in answer.json["responses"]] == [404, 201]
    assert answer.headers.get("Preference-Applied") == applied


async def test_the_waits_of_a_chain_share_one_bound(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.api.batch.subrequest.MAX_WAIT", 3)
    operation = await api.created()
    wait = {"method": "GET", "url": f"{COLLECTION}/{operation['id']}", "headers": {"prefer": 'a, Wait="1", b'}}
    found = await responses(api, wait, *({**wait, "dependsOn": [str(number)]} for number in range(1, 5)))
    waits = [response["headers"]["preference-applied"] for response in found]
    assert waits[0] == "wait=1"
    assert waits[3:] == ["wait=0"] * 2


async def test_bodies_nest_as_deep_as_alone(api: Api) -> None:
    def nested(depth: int) -> Json:
        return {"status": json.loads("[" * (depth - 1) + "]" * (depth - 1))}

    for depth in (64, 65):
        alone = await api.post(json=nested(depth))
        batch = await send(api, {**CREATE, "body": nested(depth)})
        assert (alone.status, batch.status) == ((400, 200) if depth == 64 else (400, 400))


@pytest.mark.parametrize(("length", "status"), [(50_000, 200), (60_000, 413)])
async def test_a_batch_may_have_a_megabyte_in_all(api: Api, length: int, status: int) -> None:
    batch = {"requests": numbered(*[{**CREATE, "body": {"note": "x" * length}}] * 20)}
    headers = {"Content-Type": "application/json"}
    answer = await api.post("/$batch", data=io.BytesIO(json.dumps(batch).encode()), headers=headers)
    assert answer.status == status
    assert {response["status"] for response in answer.json.get("responses", [])} == ({201} if status == 200 else set())


async def test_header_lines_of_a_part_have_the_limit_of_single_requests(api: Api) -> None:
    """Readers of filters, preferences and types are made for short texts, and remember them."""
    long = "x" * 9000
    read, create = {"method": "GET", "url": f"{COLLECTION}?$filter={long}"}, {**CREATE, "headers": {"Prefer": long}}
    assert [response["status"] for response in await responses(api, read, create, CREATE)] == [414, 431, 201]


async def test_a_wait_of_the_google_dialect_cannot_be_part_of_a_batch(api: Api) -> None:
    await api.created(id="mine")
    part = {"method": "POST", "url": f"{api.url}/google/operations/mine:wait", "body": {}}
    assert (await only(api, part))["status"] == 400


async def test_what_a_batch_holds_is_forgotten_with_its_client(waiters: Callable[[], int], api: Api) -> None:
    for number in range(3):
        await api.created(id=f"o{number}")
    held = [
        {"method": "GET", "url": f"{COLLECTION}/o{number}", "headers": {"Prefer": f"wait={wait}"}}
        for number, wait in enumerate((20, 20, 1))
    ]
    body = json.dumps({"requests": numbered(*held)}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", URL(api.url).port)
    head = "POST /$batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def one_has_been_answered() -> bool:
        return waiters() == 2

    async def nothing_is_held() -> bool:
        return waiters() == 0

    await eventually(one_has_been_answered)
    writer.transport.abort()
    await eventually(nothing_is_held)
