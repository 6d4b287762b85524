"""Server-sent events, read as a browser's EventSource reads them (HTML Living Standard, 9.2.6)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from yarl import URL

from tests.support.api_client import COLLECTION, Api, open_api
from tests.support.records import CALL, claim
from tests.support.waiting import LONGEST_WAIT, eventually, soon
from tracker.api import sse as api_streams
from tracker.api.app import running
from tracker.api.links import PREFIXES
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, Json
from tracker.domain.record import Record
from tracker.events import hub as feed_events
from tracker.events import stream
from tracker.events.follower import Follower
from tracker.runtime.dev_valkey import start_server
from tracker.store.keys import owner_digest
from tracker.store.store import Store


@dataclass(frozen=True, slots=True)
class Message:
    """What an EventSource dispatches."""

    name: str
    data: Json
    id: str


class Source:
    """An open stream, and what an EventSource would remember of it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""
        self.retry: int | None = None
        self.comments = 0

    async def next(self) -> Message | None:
        """The next message, or None at the stream's end."""
        name, data = "message", []
        async with asyncio.timeout(LONGEST_WAIT):
            while raw := await self.response.content.readline():
                field, _, value = raw.decode().removesuffix("\n").partition(":")
                value = value.removeprefix(" ")
                if raw.startswith(b":"):
                    self.comments += 1
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    self.last_id = value
                elif field == "retry":
                    self.retry = int(value)
                elif not field:
                    if data:
                        return Message(name, json.loads("\n".join(data)), self.last_id)
                    name = "message"
        return None

    async def rest(self) -> list[Message]:
        """All messages until the stream's end."""
        found = []
        while message := await self.next():
            found.append(message)
        return found

    async def placed(self) -> None:
        """Wait until the stream has said where it is."""
        async with asyncio.timeout(LONGEST_WAIT):
            while not self.last_id:
                line = (await self.response.content.readline()).decode()
                if line.startswith("id: "):
                    self.last_id = line[4:].strip()


@asynccontextmanager
async def following(
    api: Api, path: str, *, last_id: str | None = None, token: str = "test-token", **headers: str
) -> AsyncIterator[Source]:
    sent = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream", **headers}
    if last_id is not None:
        sent["Last-Event-ID"] = last_id
    async with aiohttp.ClientSession() as session, session.get(api.url + path, headers=sent) as response:
        assert response.status == 200, await response.text()
        yield Source(response)


@pytest.fixture
def followers(monkeypatch: pytest.MonkeyPatch) -> list[Follower]:
    """All followers that were made."""
    made: list[Follower] = []
    create = Follower.__init__

    def note(self: Follower, *args: Any) -> None:
        create(self, *args)
        made.append(self)

    monkeypatch.setattr(Follower, "__init__", note)
    return made


async def created(api: Api, store: Store, **body: Any) -> Record:
    return await store.find("test", (await api.created(**body))["id"])


async def walked(store: Store, record: Record) -> Record:
    """Take an operation through its life."""
    record = await claim(store, record)
    record = await store.apply(lifecycle.progress(record, 40, "half way"))
    return await store.apply(lifecycle.succeed(record, DONE, {}))


def told(messages: list[Message]) -> list[tuple[str, int | None]]:
    return [(message.data["status"], message.data.get("percentComplete")) for message in messages]


async def test_an_operation_is_followed_from_what_it_is_to_its_end(api: Api, store: Store) -> None:
    record = await created(api, store, id="mine")
    async with following(api, f"{COLLECTION}/mine/events") as source:
        first = await source.next()
        await walked(store, record)
        messages = await source.rest()
    assert first is not None
    assert told([first, *messages]) == [("NotStarted", None), ("Running", None), ("Running", 40), ("Completed", 100)]
    headers = source.response.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert headers["request-id"]
    assert source.retry == 2000


async def test_a_failure_within_a_stream_is_logged_with_the_request_id_that_the_client_has(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(api, store, id="mine")
    monkeypatch.setattr(api_streams, "encode_item", lambda _: 1 / 0)
    with capture_logs() as logs:
        async with following(api, f"{COLLECTION}/mine/events") as source:
            with pytest.raises(aiohttp.ClientError):
                await source.rest()
    [failure] = [entry for entry in logs if entry["event"] == "request_failed"]
    assert failure["request_id"] == source.response.headers["request-id"]


async def test_a_reader_that_leaves_in_the_middle_of_a_write_is_no_failure(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(api, store, id="mine")

    def leave(_: object) -> bytes:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(api_streams, "encode_item", leave)
    with capture_logs() as logs:
        async with following(api, f"{COLLECTION}/mine/events") as source:
            with pytest.raises(aiohttp.ClientError):
                await source.rest()
    assert not [entry for entry in logs if entry["log_level"] in {"warning", "error"}]


async def test_an_event_shows_members_of_the_operation_as_they_then_are(api: Api, store: Store) -> None:
    record = await walked(store, await created(api, store))
    async with following(api, f"{COLLECTION}/{record.id}/events") as source:
        [message] = await source.rest()
    whole = (await api.get(f"{COLLECTION}/{record.id}")).json
    etag = (await api.get(f"{COLLECTION}/{record.id}")).headers["ETag"]
    assert message.data.pop("callId") == CALL
    assert message.data.pop("@odata.etag") == etag
    assert message.data == {name: whole[name] for name in message.data}
    assert {"id", "@odata.type", "status", "statusDetail", "attempt", "lastActionDateTime", "resultInfo"} <= set(
        message.data
    )


async def test_a_resumed_stream_has_the_missed_events_once_and_ends_with_204_after_the_end(
    api: Api, store: Store
) -> None:
    record = await created(api, store)
    path = f"{COLLECTION}/{record.id}/events"
    async with following(api, path) as source:
        await source.next()
    await walked(store, record)
    async with following(api, path, last_id=source.last_id) as source:
        messages = await source.rest()
    assert told(messages) == [("Running", None), ("Running", 40), ("Completed", 100)]
    async with following(api, path, last_id=messages[0].id) as source:
        assert await source.rest() == messages[1:]
    headers = {"Last-Event-ID": messages[-1].id, "Accept": "text/event-stream"}
    assert (await api.get(path, headers=headers)).status == 204, "what makes an EventSource stop"


@pytest.mark.parametrize("last_id", ["", "nonsense", "1-1-1", "99999999999999-0-1"])
async def test_a_last_id_that_is_not_in_the_history_is_answered_by_a_reset_and_what_there_is(
    api: Api, store: Store, last_id: str
) -> None:
    record = await walked(store, await created(api, store))
    async with following(api, f"{COLLECTION}/{record.id}/events", last_id=last_id) as source:
        reset, state = await source.rest()
    assert reset.name == "reset"
    assert reset.data["message"]
    assert (state.name, state.data["status"]) == ("message", "Completed")
    async with following(api, f"{COLLECTION}/events", last_id=last_id) as source:
        message = await source.next()
        assert message is not None
        assert message.name == "reset"


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_call_stream_has_the_operations_of_the_call_and_a_tenant_stream_those_of_the_tenant(
    api: Api, prefix: str
) -> None:
    async with (
        following(api, f"{prefix}{COLLECTION}/events") as call,
        following(api, f"{prefix}/events") as tenant,
        following(api, f"{prefix}/events", token="other-token") as stranger,
    ):
        for source in (call, tenant, stranger):
            await source.placed()
        elsewhere = "/communications/calls/call%202%20%C3%BC/operations"
        await api.created(elsewhere, id="second")
        await api.created(id="first")
        await api.request("POST", COLLECTION, token="other-token", json={"id": "theirs"})
        found = [await source.next() for source in (call, tenant, tenant, stranger)]
    assert [(m.data["id"], m.data["callId"]) for m in found if m] == [
        ("first", CALL),
        ("second", "call 2 ü"),
        ("first", CALL),
        ("theirs", CALL),
    ]


async def test_a_call_is_followed_again_from_where_it_was_left(api: Api) -> None:
    async with following(api, f"{COLLECTION}/events") as source:
        await source.placed()
        ids = [(await api.created())["id"] for _ in range(3)]
        first = await source.next()
    assert first is not None
    await api.created("/communications/calls/other/operations")
    async with following(api, f"{COLLECTION}/events", last_id=first.id) as source:
        assert [m.data["id"] for m in (await source.next(), await source.next()) if m] == ids[1:]


async def test_a_resumed_stream_without_missed_events_is_answered_at_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 10 * LONGEST_WAIT)
    operation = await api.created()
    path = f"{COLLECTION}/{operation['id']}/events"
    async with following(api, path) as source:
        await source.next()
    for one in (path, f"{COLLECTION}/events", "/events"):
        async with asyncio.timeout(LONGEST_WAIT), following(api, one, last_id=source.last_id) as again:
            await again.placed()
            assert again.last_id == source.last_id


async def test_a_long_history_is_sent_in_order_without_gaps(api: Api, store: Store) -> None:
    ids = [(await api.created())["id"] for _ in range(250)]
    entries: Any = await store.redis.xrange(store.keys.feed("test"), count=1)
    async with following(api, "/events", last_id=f"{entries[0][0]}-1") as source:
        found = [m.data["id"] for _ in ids[1:] if (m := await source.next())]
    assert found == ids[1:]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_deleted_operations_stream_says_that_it_is_gone_and_ends(api: Api, store: Store, ended: bool) -> None:
    record = await created(api, store, id="mine")
    async with following(api, f"{COLLECTION}/mine/events") as source, following(api, "/events") as tenant:
        await source.next()
        await tenant.placed()
        if ended:
            await store.apply(lifecycle.cancel(record))
        assert (await api.delete(f"{COLLECTION}/mine")).status == 204
        messages = await source.rest()
        everywhere = [await tenant.next() for _ in range(1 + ended)]
    assert everywhere[-1] is not None
    gone = Message("gone", {"id": "mine", "callId": CALL}, everywhere[-1].id)
    assert everywhere[-1] == gone
    assert messages[-1] == gone or (ended and messages[-1].data["status"] == "Failed")
    assert (await api.get(f"{COLLECTION}/mine/events")).status == 410


async def test_streams_have_the_requirements_of_reads(api: Api) -> None:
    operation = await api.created()
    path = f"{COLLECTION}/{operation['id']}/events"
    assert (await api.get(f"{COLLECTION}/unknown/events")).error["code"] == "notFound"
    assert (await api.get("/communications/calls/other/operations/unknown/events")).status == 404
    assert (await api.get(path, token="other-token")).status == 404
    for one in (path, f"{COLLECTION}/events", "/events"):
        assert (await api.get(one, token=None)).status == 401
        assert (await api.get(one, headers={"Accept": "application/json"})).error["code"] == "notAcceptable"
        assert (await api.get(one, headers={"Accept": "text/event-stream;q=0, */*"})).status == 406
        assert (await api.get(f"{one}?$top=1")).status in {400, 501}
        assert {"GET", "HEAD"} <= set((await api.post(one, json={})).headers["Allow"].split(","))
        head = await api.request("HEAD", one)
        assert (head.status, head.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert (await api.get("/communications/calls/%01/operations/events")).status == 400


@pytest.mark.parametrize("accept", ["*/*", "text/*", "text/event-stream", "text/event-stream, application/json;q=0.1"])
async def test_an_accept_header_that_includes_events_gets_events(api: Api, accept: str) -> None:
    async with following(api, "/events", Accept=accept) as source:
        await source.placed()


async def test_an_operation_cannot_have_the_id_events(api: Api) -> None:
    answer = await api.post(json={"id": "events"})
    assert (answer.status, answer.error["target"]) == (400, "id")
    assert (await api.delete(f"{COLLECTION}/events")).status == 405
    assert (await api.post(json={"id": "Events"})).status == 201


async def test_a_silent_stream_sends_comments_that_advance_the_last_event_id(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.1)
    quiet = await created(api, store)
    async with following(api, f"{COLLECTION}/{quiet.id}/events") as source:
        await source.next()
        was, before = source.last_id, source.comments
        await api.created("/communications/calls/other/operations")
        reading = asyncio.create_task(source.next())

        async def moved() -> bool:
            return source.last_id != was and source.comments > before + 1

        await eventually(moved)
        await store.apply(lifecycle.cancel(quiet))
        message = await reading
    assert message is not None
    assert message.data["status"] == "Failed"
    async with following(api, f"{COLLECTION}/events", last_id=source.last_id) as again:
        await api.created(id="next")
        after = await again.next()
        assert after is not None
        assert after.data["id"] == "next"


async def test_events_published_while_the_connection_was_lost_are_sent_later_once_and_in_order(
    api: Api, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await created(api, store)
    async with following(api, f"{COLLECTION}/{record.id}/events") as one, following(api, "/events") as all_of_them:
        await one.next()
        await all_of_them.placed()
        monkeypatch.setattr(feed_events.EventHub, "_receive", lambda *_: None)
        running = await claim(store, record)
        monkeypatch.undo()
        running = await store.apply(lifecycle.progress(running, 40, ""))
        await redis.client_kill_filter(_type="pubsub")
        await store.apply(lifecycle.succeed(running, DONE, {}))
        messages = await one.rest()
        others = [m for _ in range(3) if (m := await all_of_them.next())]
    states = [("Running", None), ("Running", 40), ("Completed", 100)]
    assert told(messages)[-2:] == states[-2:]
    assert told(messages) in (states, states[-2:]), "what was not heard and not noticed is told with what comes next"
    assert told(others)


async def test_a_stream_outlives_redis(settings: Settings, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, tmp_path / "data")
    try:
        async with open_api(settings, redis_url=server.url) as api:
            operation = await api.created()
            path = f"{COLLECTION}/{operation['id']}"
            async with following(api, f"{path}/events") as source:
                await source.next()
                await asyncio.to_thread(server.stop)
                assert (await api.get(f"{path}/events")).status == 503
                server = await asyncio.to_thread(start_server, tmp_path / "data")

                async def canceled() -> bool:
                    return (await api.post(f"{path}/cancel")).status in {200, 202}

                await eventually(canceled)
                messages = await source.rest()
            assert [message.data["status"] for message in messages if message.name == "message"] == ["Failed"]
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_stopping_server_ends_its_streams_cleanly(settings: Settings) -> None:
    async with asyncio.timeout(LONGEST_WAIT), aiohttp.ClientSession() as session:
        async with running(settings.model_copy(update={"port": 0})) as url:
            api = Api(url, session)
            headers = {"Authorization": "Bearer test-token"}
            response = await session.get(f"{url}/events", headers=headers)
            source = Source(response)
            await source.placed()
            await api.created(id="last")
            message = await source.next()
            assert message is not None
        assert await source.rest() == []


async def test_a_reader_that_goes_away_is_forgotten(settings: Settings, followers: list[Follower]) -> None:
    async with open_api(settings, streams=1) as api:
        async with following(api, "/events") as source:
            await source.placed()
            answer = await api.get("/events")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")

        async def admitted() -> bool:
            headers = {"Authorization": "Bearer test-token"}
            async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{api.url}/events") as response:
                return response.status == 200

        await eventually(admitted)
    assert len(followers) >= 2


async def test_a_reader_that_is_behind_catches_up_from_the_history(api: Api, followers: list[Follower]) -> None:
    async with following(api, "/events") as source:
        await source.placed()
        followers[0].behind = True  # before it is told, so that nothing is kept for it
        made = [(await api.created())["id"] for _ in range(3)]
        followers[0].wake()
        told = [await source.next() for _ in made]
        assert [message and message.data["id"] for message in told] == made
        assert not followers[0].behind


async def test_a_reader_that_falls_behind_the_history_is_dropped(
    api: Api, store: Store, followers: list[Follower]
) -> None:
    await api.created()
    async with following(api, "/events") as source:
        await source.placed()
        await store.redis.xtrim(store.keys.feed("test"), 0, approximate=False)
        followers[0].behind = True
        followers[0].wake()
        with pytest.raises(aiohttp.ClientPayloadError):
            await source.rest()


async def test_a_reader_that_takes_nothing_is_dropped(
    api: Api, store: Store, followers: list[Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_streams, "WRITE_TIMEOUT", 0.2)
    dropped = asyncio.Event()
    monkeypatch.setattr(api_streams.log, "info", lambda *_, **__: dropped.set())
    url = URL(api.url)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().run_in_executor(None, reader.connect, (url.host, url.port))
        reader.send(b"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n\r\n")

        async def there() -> bool:
            return bool(followers)

        await eventually(there)
        line = f'{"a" * 32}\tc\t[1,"running",1,1,{{"d":"{"x" * 900}"}}]'
        for number in range(1000):
            text = "\n".join([line] * 100)
            await store.redis.publish(store.keys.events, f"{owner_digest('test')}\t{number + 1}-0\n{text}")
            if dropped.is_set():
                break
        await soon(dropped.wait())
