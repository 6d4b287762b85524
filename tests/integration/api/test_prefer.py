"""`Prefer` on creates and patches, over real HTTP and a real server."""

import asyncio

import aiohttp
import pytest

from tests.support.api_client import AN_HOUR, COLLECTION, DOCUMENTED, Api
from tests.support.records import claim
from tests.support.waiting import LONGEST_WAIT
from tracker.api.app import running
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.errors import Unavailable
from tracker.events.hub import ChangeWaiter, EventHub
from tracker.events.record_waiter import HubPosition
from tracker.service import Caller, Operations, open_operations
from tracker.store.store import Store

JSON = {"Content-Type": "application/json"}
pytestmark = pytest.mark.usefixtures("waits_of_an_hour")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[Record]:
    """The operations whose end is waited for."""
    records: asyncio.Queue[Record] = asyncio.Queue()
    wait = Operations.wait_for_end

    async def note(self: Operations, known: Record, *, seconds: float, since: HubPosition) -> Record:
        records.put_nowait(known)
        return await wait(self, known, seconds=seconds, since=since)

    monkeypatch.setattr(Operations, "wait_for_end", note)
    return records


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """The key of every change that is heard of, after "" as soon as somebody listens; to be asked for before `api`."""
    keys: asyncio.Queue[str] = asyncio.Queue()
    tell, connect = EventHub._receive, EventHub._on_connection

    def note(self: EventHub, channel: str, text: str) -> None:
        tell(self, channel, text)
        for line in text.split("\n")[1:]:
            keys.put_nowait(line[:32])

    def connected(self: EventHub, there: bool) -> None:
        connect(self, there)
        keys.put_nowait("")

    monkeypatch.setattr(EventHub, "_receive", note)
    monkeypatch.setattr(EventHub, "_on_connection", connected)
    return keys


async def test_a_minimal_answer_to_a_create_has_no_body(api: Api) -> None:
    answer = await api.post(json={"id": "mine"}, headers={"Prefer": "return=minimal"})
    assert (answer.status, answer.body) == (204, b"")
    location = f"{api.url}{COLLECTION}/mine"
    assert answer.headers["Location"] == answer.headers["OData-EntityId"] == location
    assert answer.headers["Operation-Location"] == f"{api.url}/operations/mine"
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert answer.headers["Vary"] == "Prefer"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["ETag"] == (await api.get(location)).headers["ETag"]
    again = await api.post(json={"id": "mine"}, headers={"Prefer": "return=minimal"})
    assert (again.status, again.headers["OData-EntityId"]) == (204, location)


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("return=representation", "return=representation"),
        ('Return="REPRESENTATION"; foo=1', "return=representation"),
        ("return=something, wait=5, other", None),
        ("handling=lenient", "handling=lenient"),
        ("return=representation, handling=strict", "return=representation, handling=strict"),
        ("", None),
    ],
)
async def test_only_what_is_applied_is_named(api: Api, prefer: str, applied: str | None) -> None:
    answer = await api.post(json={"clientContext": "x"}, headers={"Prefer": prefer})
    assert (answer.status, answer.json["clientContext"]) == (201, "x")
    assert answer.headers.get("Preference-Applied") == applied
    assert answer.headers["Vary"] == "Prefer"
    assert "OData-EntityId" not in answer.headers


async def test_an_asynchronous_answer_is_202(api: Api) -> None:
    answer = await api.post(json={}, headers={"Prefer": "respond-async"})
    assert (answer.status, answer.json["status"]) == (202, "NotStarted")
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Operation-Location"] == f"{api.url}/operations/{answer.json['id']}"
    assert (await api.get(answer.headers["Location"])).json == answer.json
    both = await api.post(json={}, headers={"Prefer": "respond-async, return=minimal"})
    assert (both.status, both.body, "OData-EntityId" in both.headers) == (202, b"", True)
    assert both.headers["Preference-Applied"] == "respond-async, return=minimal"


async def test_a_wait_that_is_too_short_ends_with_202(api: Api) -> None:
    for wait, applied in ((0, 0), (1, 1)):
        answer = await api.post(json={}, headers={"Prefer": f"respond-async, wait={wait}"})
        assert (answer.status, answer.json["status"]) == (202, "NotStarted")
        assert answer.headers["Preference-Applied"] == f"respond-async, wait={applied}"


@pytest.mark.parametrize(("prefer", "status"), [("wait=5000", 201), ("wait=3600, return=minimal", 204)])
async def test_an_operation_that_ends_in_time_is_answered_as_it_ended(
    heard: asyncio.Queue[str], api: Api, store: Store, held: asyncio.Queue[Record], prefer: str, status: int
) -> None:
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        assert await heard.get() == ""
        sent = group.create_task(api.post(json={"a": 1}, headers={"Prefer": f"respond-async, {prefer}"}))
        created = await held.get()
        begun = await claim(store, created)
        assert [await heard.get() for _ in range(2)] == [created.key] * 2
        assert not sent.done(), "a start is no end"
        await store.apply(lifecycle.succeed(begun, DONE, {"b": 2}))
    answer = sent.result()
    assert answer.status == status
    shown = (await api.get(answer.headers["Location"])).json
    assert (shown["status"], shown["a"], shown["b"]) == ("Completed", 1, 2)
    assert "Retry-After" not in answer.headers
    if status == 201:
        assert answer.json == shown
        assert answer.headers["Preference-Applied"] == "wait=3600"
    else:
        assert answer.headers["Preference-Applied"] == "wait=3600, return=minimal"


async def test_an_end_that_arrives_before_the_wait_begins_is_not_missed(
    settings: Settings, store: Store, heard: asyncio.Queue[str]
) -> None:
    async with asyncio.timeout(LONGEST_WAIT), open_operations(settings) as operations:
        assert await heard.get() == ""
        caller, position = Caller("me", "test"), operations.position
        record, _ = await operations.create(caller, "call-1", {})
        await store.apply(lifecycle.succeed(await claim(store, record), DONE, {}))
        assert [await heard.get() for _ in range(3)] == [record.key] * 3
        ended = await operations.wait_for_end(record, seconds=AN_HOUR, since=position)
    assert ended.status == "Completed"


@pytest.mark.parametrize("changed", [False, True])
async def test_a_wait_that_ends_while_redis_is_away_is_answered_from_what_is_known(
    settings: Settings, heard: asyncio.Queue[str], monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """And where nothing was heard of a change, it is not even asked."""
    asked: list[str] = []

    async def away(_: Store, tenant: str, operation_id: str) -> Record:
        asked.append(operation_id)
        raise Unavailable(f"{tenant}: away")

    async with asyncio.timeout(LONGEST_WAIT), open_operations(settings) as operations:
        assert await heard.get() == ""
        caller, before = Caller("me", "test"), operations.position
        record, _ = await operations.create(caller, "call-1", {})
        assert await heard.get() == record.key
        position = before if changed else operations.position
        with monkeypatch.context() as patched:
            patched.setattr(Store, "find", away)
            assert await operations.wait_for_end(record, seconds=0.1, since=position) == record
    assert asked == [record.id] * changed


async def test_an_operation_that_has_begun_when_the_wait_ends_is_answered_as_running(
    api: Api, store: Store, held: asyncio.Queue[Record]
) -> None:
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        sent = group.create_task(api.post(json={}, headers={"Prefer": "respond-async, wait=2"}))
        await claim(store, await held.get())
    assert (sent.result().status, sent.result().json["status"]) == (202, "Running")


async def test_a_client_that_goes_away_frees_its_held_create(
    api: Api, held: asyncio.Queue[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    freed, leave = asyncio.Event(), ChangeWaiter.__exit__

    def note(self: ChangeWaiter, *error: object) -> None:
        leave(self, *error)
        freed.set()

    monkeypatch.setattr(ChangeWaiter, "__exit__", note)
    async with asyncio.timeout(LONGEST_WAIT):
        sent = asyncio.create_task(api.post(json={}, headers={"Prefer": f"respond-async, wait={AN_HOUR}"}))
        await held.get()
        sent.cancel()
        await freed.wait()


async def test_an_operation_that_is_deleted_while_its_create_is_held_was_accepted(
    api: Api, held: asyncio.Queue[Record]
) -> None:
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        sent = group.create_task(api.post(json={}, headers={"Prefer": f"respond-async, wait={AN_HOUR}"}))
        record = await held.get()
        assert (await api.delete(f"{COLLECTION}/{record.id}")).status == 204
    assert (sent.result().status, sent.result().json["id"]) == (202, record.id)


async def test_an_accepted_operation_is_not_lost_when_redis_goes_while_it_is_held(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object, **__: object) -> Record:
        raise Unavailable("away")

    monkeypatch.setattr(Operations, "wait_for_end", gone)
    answer = await api.post(json={}, headers={"Prefer": f"respond-async, wait={AN_HOUR}"})
    assert answer.status == 202


async def test_a_stopping_server_answers_held_creates(settings: Settings, held: asyncio.Queue[Record]) -> None:
    async with asyncio.timeout(LONGEST_WAIT), aiohttp.ClientSession() as session:
        async with running(settings.model_copy(update={"port": 0})) as url:
            sent = asyncio.create_task(
                Api(url, session).post(json={}, headers={"Prefer": f"respond-async, wait={AN_HOUR}"})
            )
            await held.get()
        answer = await sent
    assert (answer.status, answer.json["status"]) == (202, "NotStarted")


async def test_the_documented_body_is_refused_strictly(api: Api) -> None:
    answer = await api.post(data=DOCUMENTED, headers={**JSON, "Prefer": "handling=strict"})
    assert (answer.status, answer.error["code"]) == (400, "badRequest")
    assert [detail["target"] for detail in answer.error["details"]] == ["status"]
    assert (await api.get(COLLECTION)).json["value"] == []


async def test_every_member_that_is_ignored_is_named_strictly(api: Api) -> None:
    body = {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "prompts": [{"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "a.wav"}}],
        "@odata.etag": "x",
        "prompts@odata.type": "#Collection(microsoft.graph.prompt)",
        "attempt": 1,
        "createdDateTime": "2026-01-31T12:00:00Z",
        "completionReason": "unknown",
    }
    assert (await api.post(json=body)).status == 201
    answer = await api.post(json=body, headers={"Prefer": "handling=strict"})
    assert {detail["target"] for detail in answer.error["details"]} == {*body} - {"@odata.type", "prompts"}
    operation = await api.created()
    path = f"{COLLECTION}/{operation['id']}"
    answer = await api.request("PATCH", path, json=operation, headers={"Prefer": "handling=strict"})
    assert answer.status == 400
    assert {detail["target"] for detail in answer.error["details"]} == {
        *operation.keys() - {"id", "clientContext", "@odata.type"}
    }
    assert (await api.request("PATCH", path, json={"a": 1}, headers={"Prefer": "handling=strict"})).status == 200


async def test_a_minimal_answer_to_a_patch_has_no_body(api: Api) -> None:
    operation = await api.created()
    path = f"{COLLECTION}/{operation['id']}"
    answer = await api.request("PATCH", path, json={"a": 1}, headers={"Prefer": "return=minimal"})
    assert (answer.status, answer.body, answer.headers["Preference-Applied"]) == (204, b"", "return=minimal")
    shown = await api.get(path)
    assert (shown.json["a"], shown.headers["ETag"]) == (1, answer.headers["ETag"])
    full = await api.request("PATCH", path, json={"a": 2}, headers={"Prefer": "return=representation"})
    assert (full.status, full.json["a"], full.headers["Preference-Applied"]) == (200, 2, "return=representation")


async def test_vary_names_the_headers_that_an_answer_depends_on(api: Api) -> None:
    path = f"{COLLECTION}/{(await api.created())['id']}"
    read = await api.get(path)
    unchanged = await api.get(path, headers={"If-None-Match": read.headers["ETag"]})
    assert (read.headers["Vary"], unchanged.status, unchanged.headers["Vary"]) == ("Prefer", 304, "Prefer")
