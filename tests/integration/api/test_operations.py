"""Create, read, cancel, delete and monitor operations, over real HTTP and a real server."""

import json
from datetime import datetime
from uuid import UUID

import pytest

from tests.support.api_client import COLLECTION, DOCUMENTED, REPRESENTATION, TYPE, Api
from tests.support.records import claim
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, Json
from tracker.domain.record import Record
from tracker.store.store import Store

JSON = {"Content-Type": "application/json"}


def path_of(operation: Json) -> str:
    return f"{COLLECTION}/{operation['id']}"


async def start(store: Store, operation: Json) -> Record:
    return await claim(store, await store.find("test", operation["id"]))


async def complete(store: Store, operation: Json) -> Record:
    return await store.apply(lifecycle.succeed(await start(store, operation), DONE, {}))


@pytest.mark.parametrize("body", [DOCUMENTED, DOCUMENTED.replace(b"\n", b"\r\n")], ids=["LF", "CRLF"])
@pytest.mark.parametrize("prefix", ["", "/v1.0", "/beta"])
async def test_the_documented_body_is_accepted(api: Api, body: bytes, prefix: str) -> None:
    answer = await api.post(prefix + COLLECTION, data=body, headers=JSON)
    operation = answer.json
    assert answer.status == 201
    assert str(UUID(operation["id"])) == operation["id"]
    assert datetime.fromisoformat(operation["createdDateTime"]).utcoffset() is not None
    base = f"{api.url}{prefix}"
    assert answer.headers["Location"] == f"{base}{COLLECTION}/{operation['id']}"
    assert answer.headers["Operation-Location"] == f"{base}/operations/{operation['id']}"
    assert answer.headers["ETag"].startswith('W/"')
    assert answer.headers["Retry-After"] == "1"
    assert operation["@odata.context"] == f"{base}/$metadata#communications/calls('call-1')/operations/$entity"
    assert operation["@odata.type"] == TYPE
    assert operation["status"] == "NotStarted"
    assert operation["clientContext"] == "Client Context value"
    assert operation["resultInfo"] == {
        "@odata.type": "#microsoft.graph.resultInfo",
        "code": 4,
        "subcode": 7,
        "message": "Message value",
    }


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_the_documented_representation_is_accepted_with_its_placeholders(api: Api, end: bytes) -> None:
    body = REPRESENTATION.replace(b"\n", end)
    head = (
        f"POST /beta{COLLECTION} HTTP/1.1\r\nHost: example.org\r\nAuthorization: Bearer test-token\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answered, _, content = (await api.raw(head.encode() + body)).partition(b"\r\n\r\n")
    operation = json.loads(content)
    assert answered.startswith(b"HTTP/1.1 201 Created\r\n")
    assert f"Location: http://example.org/beta{COLLECTION}/{operation['id']}\r\n".encode() in answered
    assert (operation["@odata.type"], operation["status"]) == (TYPE, "NotStarted")
    assert (operation["clientContext"], operation["resultInfo"]) == ("String", None)


async def test_what_location_and_operation_location_name_can_be_read(api: Api) -> None:
    answer = await api.post(json={"clientContext": "x", "extra": [{"a": 1}]})
    read = await api.get(answer.headers["Location"])
    assert (read.status, read.json) == (200, answer.json)
    assert read.headers["ETag"] == answer.headers["ETag"]
    monitored = await api.get(answer.headers["Operation-Location"])
    assert monitored.json == {
        "id": answer.json["id"],
        "status": "NotStarted",
        "createdDateTime": answer.json["createdDateTime"],
        "lastActionDateTime": answer.json["lastActionDateTime"],
        "resourceLocation": answer.headers["Location"],
    }
    assert monitored.headers["Retry-After"] == "1"


async def test_the_same_id_and_body_again_is_the_stored_operation(api: Api) -> None:
    first = await api.post(json={"id": "mine", "clientContext": "x"})
    again = await api.post(json={"id": "mine", "clientContext": "x"})
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]


async def test_an_id_that_is_taken_is_a_conflict(api: Api) -> None:
    await api.created(id="mine")
    answer = await api.post(json={"id": "mine", "clientContext": "other"})
    assert (answer.status, answer.error["code"]) == (409, "conflict")


async def test_every_wrong_member_is_named(api: Api) -> None:
    answer = await api.post(json={"status": 7, "resultInfo": "x", "clientContext": "c" * 257, "id": "a/b"})
    assert (answer.status, answer.error["code"]) == (400, "badRequest")
    assert {detail["target"] for detail in answer.error["details"]} == {"status", "resultInfo", "clientContext", "id"}


async def test_an_operation_shows_its_way_to_the_result(api: Api, store: Store) -> None:
    operation = await api.created()
    await start(store, operation)
    running = await api.get(path_of(operation))
    assert (running.json["status"], running.json["attempt"]) == ("Running", 1)
    assert running.headers["Retry-After"] == "1"
    record = await store.find("test", operation["id"])
    await store.apply(lifecycle.succeed(record, DONE, {}))
    done = await api.get(path_of(operation))
    assert (done.json["status"], done.json["percentComplete"]) == ("Completed", 100)
    assert done.json["resultInfo"]["code"] == 200
    assert {"startedDateTime", "completedDateTime", "expirationDateTime"} <= set(done.json)
    assert "Retry-After" not in done.headers
    monitored = await api.get(f"/operations/{operation['id']}")
    assert (monitored.json["status"], monitored.json["percentComplete"]) == ("Succeeded", 100)
    assert "Retry-After" not in monitored.headers


@pytest.mark.parametrize("form", ["{}", '{}, W/"other"', 'W/"other",{}', "*", "strong"])
async def test_an_unchanged_operation_is_not_sent_again(api: Api, form: str) -> None:
    operation = await api.created()
    etag = (await api.get(path_of(operation))).headers["ETag"]
    sent = etag.removeprefix("W/") if form == "strong" else form.format(etag)
    answer = await api.get(path_of(operation), headers={"If-None-Match": sent})
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
    assert answer.headers["request-id"]


@pytest.mark.parametrize("sent", ['W/"other"', "nonsense", '"', ""])
async def test_a_changed_operation_is_sent(api: Api, sent: str) -> None:
    operation = await api.created()
    assert (await api.get(path_of(operation), headers={"If-None-Match": sent})).status == 200


async def test_head_is_get_without_a_body(api: Api) -> None:
    operation = await api.created()
    read, head = await api.get(path_of(operation)), await api.request("HEAD", path_of(operation))
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Retry-After"):
        assert head.headers[name] == read.headers[name]


async def test_a_cancel_before_the_start_ends_the_operation(api: Api) -> None:
    operation = await api.created()
    first = await api.post(f"{path_of(operation)}/cancel", json={"reason": "changed my mind"})
    assert (first.status, first.json["status"], first.json["resultInfo"]["code"]) == (202, "Failed", 499)
    assert "cancelRequestedDateTime" in first.json
    again = await api.post(f"{path_of(operation)}/cancel")
    assert (again.status, again.json) == (200, first.json)
    monitored = (await api.get(f"/operations/{operation['id']}")).json
    assert (monitored["status"], monitored["error"]["code"]) == ("Canceled", "canceled")


async def test_a_cancel_of_a_running_operation_is_only_recorded(api: Api, store: Store) -> None:
    operation = await api.created()
    await start(store, operation)
    answer = await api.post(f"{path_of(operation)}/cancel", data=b"")
    assert (answer.status, answer.json["status"], answer.headers["Retry-After"]) == (202, "Running", "1")
    assert "cancelRequestedDateTime" in answer.json


@pytest.mark.parametrize("body", [{"reason": 5}, {"reason": "r" * 257}])
async def test_a_cancel_with_a_wrong_reason_changes_nothing(api: Api, body: Json) -> None:
    operation = await api.created()
    answer = await api.post(f"{path_of(operation)}/cancel", json=body)
    assert (answer.status, answer.error["target"]) == (400, "reason")
    assert (await api.get(path_of(operation))).json["status"] == "NotStarted"


async def test_a_cancel_with_a_body_of_another_type_is_refused(api: Api) -> None:
    operation = await api.created()
    answer = await api.post(f"{path_of(operation)}/cancel", data=b"reason=x", headers={"Content-Type": "text/plain"})
    assert answer.status == 415


async def test_the_monitor_cancels_once(api: Api) -> None:
    operation = await api.created()
    assert (await api.delete(f"/operations/{operation['id']}")).status == 202
    assert (await api.delete(f"/operations/{operation['id']}")).status == 204
    assert (await api.get(path_of(operation))).json["status"] == "Failed"


async def test_a_deleted_operation_is_gone(api: Api, store: Store) -> None:
    operation = await api.created()
    await complete(store, operation)
    deleted = await api.delete(path_of(operation))
    assert (deleted.status, deleted.body) == (204, b"")
    for answer in (
        await api.get(path_of(operation)),
        await api.get(f"/operations/{operation['id']}"),
        await api.delete(path_of(operation)),
        await api.post(f"{path_of(operation)}/cancel"),
    ):
        assert (answer.status, answer.error["code"]) == (410, "gone")


async def test_if_match_guards_a_delete(api: Api) -> None:
    operation = await api.created()
    refused = await api.delete(path_of(operation), headers={"If-Match": 'W/"999"'})
    assert (refused.status, refused.error["code"]) == (412, "preconditionFailed")
    etag = (await api.get(path_of(operation))).headers["ETag"]
    assert (await api.delete(path_of(operation), headers={"If-Match": etag})).status == 204


@pytest.mark.parametrize(
    "path", ["{collection}/{id}", "/operations/{id}", "/communications/calls/other/operations/{id}"]
)
async def test_an_operation_exists_for_its_own_tenant_and_call_only(api: Api, path: str) -> None:
    operation = await api.created(clientContext="secret")
    token = "test-token" if "other" in path else "other-token"
    address = path.format(collection=COLLECTION, id=operation["id"])
    answers = [await api.get(address, token=token), await api.delete(address, token=token)]
    if not address.startswith("/operations"):
        answers.append(await api.post(f"{address}/cancel", token=token))
    for answer in answers:
        assert (answer.status, answer.error["code"]) == (404, "notFound")
    assert (await api.get(COLLECTION, token="other-token")).json["value"] == []
    assert (await api.get(path_of(operation))).json["status"] == "NotStarted"


async def test_two_tenants_may_use_one_id(api: Api) -> None:
    await api.created(id="same", clientContext="mine")
    answer = await api.post(json={"id": "same", "clientContext": "theirs"}, token="other-token")
    assert answer.status == 201
    assert (await api.get(f"{COLLECTION}/same")).json["clientContext"] == "mine"


@pytest.mark.parametrize(
    "name", ["missing", "%00", "%0A", "a%2Fb", "a%20b", "%F0%9F%98%80", "%FF", "$value", "x" * 2000]
)
async def test_an_id_that_is_not_there_is_not_found(api: Api, name: str) -> None:
    for path in (f"{COLLECTION}/{name}", f"/operations/{name}"):
        answer = await api.get(path)
        assert (answer.status, answer.error["code"]) == (404, "notFound")
