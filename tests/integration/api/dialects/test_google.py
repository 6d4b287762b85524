"""The dialect of google.longrunning.Operations over real HTTP."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.api_client import AN_HOUR, Api, open_api
from tests.support.records import claim
from tests.support.waiting import LONGEST_WAIT
from tracker.api.app import running
from tracker.api.dialects.google import CODES, code_of
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, Json, ResultInfo
from tracker.domain.record import Record
from tracker.events.record_waiter import HubPosition
from tracker.service import Operations
from tracker.store.store import Store

LIST = "/google/calls/call-1/operations"


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """Has the status of an operation each time that its end begins to be waited for."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    wait = Operations.wait_for_end

    async def note(self: Operations, known: Record, *, seconds: float, since: HubPosition) -> Record:
        queue.put_nowait(known.status)
        return await wait(self, known, seconds=seconds, since=since)

    monkeypatch.setattr(Operations, "wait_for_end", note)
    return queue


async def started(api: Api, store: Store, **body: Any) -> Record:
    made = await api.created(**body)
    return await claim(store, await store.find("test", made["id"]))


async def failed(api: Api, store: Store, result: ResultInfo) -> Json:
    record = await started(api, store)
    await store.apply(lifecycle.reject(record, result, {}))
    return (await api.get(f"/google/operations/{record.id}")).json


async def test_an_operation_that_goes_on_has_no_result(api: Api, store: Store) -> None:
    record = await started(api, store, clientContext="mine")
    record = await store.apply(lifecycle.progress(record, 40, "half way"))
    body = (await api.get(f"/google/operations/{record.id}")).json
    assert body.keys() == {"name", "metadata", "done"}
    assert (body["name"], body["done"]) == (f"operations/{record.id}", False)
    metadata = body["metadata"]["value"]
    assert (metadata["callId"], metadata["clientContext"], metadata["attempt"]) == ("call-1", "mine", 1)
    assert (metadata["progressPercent"], metadata["statusMessage"]) == (40, "half way")
    assert "endTime" not in metadata


async def test_a_completed_operation_is_its_own_response(api: Api, store: Store) -> None:
    record = await started(api, store)
    await store.apply(lifecycle.succeed(record, DONE, {}))
    body = (await api.get(f"/google/operations/{record.id}")).json
    shown = (await api.get(f"/communications/calls/call-1/operations/{record.id}")).json
    shown.pop("@odata.context")
    assert (body["done"], body["response"]["value"]) == (True, shown)
    assert "error" not in body


@pytest.mark.parametrize(("code", "expected"), [(400, 3), (404, 5), (418, 3), (503, 14), (507, 13), (4, 2)])
async def test_a_failure_has_googles_code(api: Api, store: Store, code: int, expected: int) -> None:
    body = await failed(api, store, ResultInfo(code=code, subcode=7, message="No."))
    assert (body["done"], body["error"]["code"], body["error"]["message"]) == (True, expected, "No.")
    assert body["error"]["details"][0]["metadata"] == {"code": str(code), "subcode": "7"}


def test_every_code_follows_from_a_status() -> None:
    assert {status: code_of(status) for status in CODES} == CODES
    assert sorted({code_of(status) for status in (0, 400, 500, *CODES)}) == [1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 16]


async def test_a_canceled_operation_is_canceled_whatever_its_type_calls_it(api: Api) -> None:
    prompts = [{"mediaInfo": {"uri": "welcome.wav"}}]
    made = (await api.post("/communications/calls/call-1/playPrompt", json={"prompts": prompts})).json
    path = f"/google/operations/{made['id']}"
    for _ in range(2):
        answer = await api.post(f"{path}:cancel", json={})
        assert (answer.status, answer.json) == (200, {})
    error = (await api.get(path)).json["error"]
    assert (error["code"], error["details"][0]["metadata"]["subcode"]) == (1, "8508")


@pytest.mark.usefixtures("waits_of_an_hour")
async def test_a_wait_goes_on_until_the_operation_has_ended(
    api: Api, store: Store, holds: "asyncio.Queue[str]"
) -> None:
    made = await api.created()
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        waiting = group.create_task(
            api.post(f"/google/operations/{made['id']}:wait", json={"timeout": f"{AN_HOUR - 1}.5s"})
        )
        assert await holds.get() == "NotStarted"
        record = await claim(store, await store.find("test", made["id"]))
        await store.apply(lifecycle.succeed(record, DONE, {}))
    assert (waiting.result().status, waiting.result().json["done"]) == (200, True)


async def test_a_wait_ends_when_its_time_is_up(api: Api) -> None:
    made = await api.created()
    for timeout in ("0s", "0.01s"):
        answer = await api.post(f"/google/operations/{made['id']}:wait", json={"timeout": timeout})
        assert (answer.status, answer.json["done"]) == (200, False)


@pytest.mark.usefixtures("waits_of_an_hour")
async def test_a_stopping_server_answers_a_wait(settings: Settings, holds: "asyncio.Queue[str]") -> None:
    async with asyncio.timeout(LONGEST_WAIT), aiohttp.ClientSession() as session:
        async with running(settings.model_copy(update={"port": 0})) as url:
            api = Api(url, session)
            made = await api.created()
            waiting = asyncio.create_task(api.post(f"/google/operations/{made['id']}:wait"))
            await holds.get()
        answer = await waiting
    assert (answer.status, answer.json["done"]) == (200, False)


@pytest.mark.parametrize("value", [30, "30", "-1s", "١s", "1.s", {}])
@pytest.mark.parametrize("name", ["timeout", "seconds"])
async def test_a_wait_that_cannot_be_read_is_refused(api: Api, name: str, value: Any) -> None:
    made = await api.created()
    answer = await api.post(f"/google/operations/{made['id']}:wait", json={name: value})
    assert (answer.status, answer.json["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_a_list_goes_on_where_it_was_though_operations_are_created(api: Api) -> None:
    made = [(await api.created())["id"] for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = (await api.get(f"{LIST}?pageSize=2&pageToken={token}")).json
        seen += [item["name"] for item in page["operations"]]
        await api.created()
        if "nextPageToken" not in page:
            break
        token = page["nextPageToken"]
    assert seen == [f"calls/call-1/operations/{name}" for name in reversed(made)]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("pageSize=-1", 400),
        ("pageSize=x", 400),
        ("pageToken=x", 400),
        ("pageToken=1&pageToken=1", 400),
        ("other=1", 400),
        ("$top=1", 400),
        ("filter=done%3Dtrue", 501),
        ("filter=", 200),
        ("pageSize=0", 200),
        ("pageSize=100000000", 200),
        ("alt=json&prettyPrint=true", 200),
        ("$alt=json%3Benum-encoding%3Dint", 200),
        ("alt=proto", 501),
    ],
)
async def test_no_option_is_ignored(api: Api, query: str, status: int) -> None:
    assert (await api.get(f"{LIST}?{query}")).status == status


async def test_a_call_that_nobody_has_used_has_no_operations(api: Api) -> None:
    assert (await api.get("/google/calls/none/operations")).json == {"operations": []}


async def test_nothing_is_listed_over_all_calls(api: Api) -> None:
    error = (await api.get("/google/operations")).json["error"]
    assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")


async def test_an_operation_is_another_calls_or_another_tenants(api: Api) -> None:
    made = await api.created()
    for path, token in ((f"{LIST}/{made['id']}", "other-token"), (f"/google/calls/x/operations/{made['id']}", None)):
        answer = await api.get(path, **({} if token is None else {"token": token}))
        assert (answer.status, answer.json["error"]["status"]) == (404, "NOT_FOUND")


async def test_what_is_deleted_is_not_found(api: Api) -> None:
    made = await api.created()
    path = f"/google/operations/{made['id']}"
    assert (await api.delete(path)).json == {}
    for method in ("GET", "DELETE"):
        assert (await api.request(method, path)).status == 404
    assert (await api.get(f"/communications/calls/call-1/operations/{made['id']}")).status == 410


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "word"),
    [
        ("GET", "/google/operations/x", {"Authorization": "none"}, 401, "UNAUTHENTICATED"),
        ("GET", "/google/operations/x", {"Accept": "text/html"}, 406, "INVALID_ARGUMENT"),
        ("GET", "/google", {}, 404, "NOT_FOUND"),
        ("GET", "/google/elsewhere", {}, 404, "NOT_FOUND"),
        ("PUT", "/google/operations/x", {}, 405, "UNIMPLEMENTED"),
        ("GET", "/google/operations/x:cancel", {}, 405, "UNIMPLEMENTED"),
        ("POST", "/google/operations/x:stop", {}, 405, "UNIMPLEMENTED"),
        ("POST", "/google/operations/x:cancel", {"Content-Type": "text/plain"}, 415, "INVALID_ARGUMENT"),
        ("DELETE", "/google/operations/x?force=true", {}, 400, "INVALID_ARGUMENT"),
    ],
)
async def test_errors_have_googles_form(
    api: Api, method: str, path: str, headers: dict[str, str], status: int, word: str
) -> None:
    answer = await api.request(method, path, headers=headers, data=b"{}" if "Content-Type" in headers else None)
    error = answer.json["error"]
    assert error.keys() == {"code", "message", "status"}
    assert (answer.status, error["code"], error["status"]) == (status, status, word)
    assert ("Allow" in answer.headers) is (status == 405)
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert "request-id" in answer.headers


async def test_an_outage_of_the_store_is_reported_in_the_form_of_each_dialect(
    settings: Settings, tmp_path: Path
) -> None:
    async with open_api(settings, redis_url=f"unix://{tmp_path}/nobody.sock") as api:
        for path in ("/google/operations/x", "/ogc/jobs/x"):
            answer = await api.get(path)
            told = json.loads(answer.body)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert told.get("error", {}).get("status") == "UNAVAILABLE" or told["title"] == "Service Unavailable"
