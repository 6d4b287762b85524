"""`Prefer: wait=N`: answers that are held until something changes."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.api_client import AN_HOUR, COLLECTION, Api
from tests.support.waiting import LONGEST_WAIT
from tracker.api import prefer
from tracker.api.app import running
from tracker.api.connection import Connection
from tracker.config import Settings
from tracker.domain.record import Record
from tracker.events.hub import ChangeWaiter
from tracker.service import Operations

LONG = {"Prefer": f"wait={AN_HOUR}"}
pytestmark = pytest.mark.usefixtures("waits_of_an_hour")


async def cancel(api: Api, path: str) -> None:
    assert (await api.post(f"{path}/cancel")).status == 202


async def created(api: Api) -> str:
    return f"{COLLECTION}/{(await api.created())['id']}"


async def test_a_held_answer_comes_with_the_change(api: Api, held: asyncio.Event) -> None:
    path = await created(api)
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get(path, headers=LONG))
        await held.wait()
        await cancel(api, path)
    answer = waiting.result()
    assert (answer.status, answer.json["status"]) == (200, "Failed")
    assert answer.headers["Preference-Applied"] == f"wait={AN_HOUR}"


async def test_a_change_since_the_clients_etag_is_answered_at_once(api: Api) -> None:
    path = await created(api)
    etag = (await api.get(path)).headers["ETag"]
    await cancel(api, path)
    async with asyncio.timeout(LONGEST_WAIT):
        answer = await api.get(path, headers={**LONG, "If-None-Match": etag})
    assert (answer.status, answer.json["status"]) == (200, "Failed")


async def test_a_change_from_the_clients_etag_on_is_waited_for(api: Api, held: asyncio.Event) -> None:
    path = await created(api)
    etag = (await api.get(path)).headers["ETag"]
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get(path, headers={**LONG, "If-None-Match": etag}))
        await held.wait()
        await cancel(api, path)
    assert waiting.result().status == 200
    assert waiting.result().headers["ETag"] != etag


@pytest.mark.parametrize("conditional", [False, True])
async def test_time_that_passes_without_a_change_ends_the_wait(
    api: Api, held: asyncio.Event, conditional: bool
) -> None:
    path = await created(api)
    etag = (await api.get(path)).headers["ETag"]
    condition = {"If-None-Match": etag} if conditional else {}
    answer = await api.get(path, headers={"Prefer": "wait=1", **condition})
    assert held.is_set()
    assert answer.status == (304 if conditional else 200)
    assert (answer.headers["ETag"], answer.headers["Preference-Applied"]) == (etag, "wait=1")


async def test_what_has_ended_is_answered_at_once(api: Api) -> None:
    path = await created(api)
    await cancel(api, path)
    async with asyncio.timeout(LONGEST_WAIT):
        answer = await api.get(path, headers=LONG)
        unchanged = await api.get(path, headers={**LONG, "If-None-Match": answer.headers["ETag"]})
    assert (answer.status, unchanged.status) == (200, 304)


@pytest.mark.parametrize("preference", ["wait=0", "WAIT=0", 'wait="0"; x=y, wait=50'])
async def test_a_wait_of_zero_is_no_wait(api: Api, preference: str) -> None:
    answer = await api.get(await created(api), headers={"Prefer": preference})
    assert (answer.status, answer.headers["Preference-Applied"]) == (200, "wait=0")


@pytest.mark.parametrize(
    "preference", ["wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "wait=1s", "=", "respond-async"]
)
async def test_a_malformed_wait_is_ignored(api: Api, preference: str) -> None:
    async with asyncio.timeout(LONGEST_WAIT):
        answer = await api.get(await created(api), headers={"Prefer": preference})
    assert answer.status == 200
    assert "Preference-Applied" not in answer.headers


async def test_a_long_wait_is_shortened(api: Api, held: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefer, "MAX_WAIT", 60)
    path = await created(api)
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get(path, headers={"Prefer": "wait=86400"}))
        await held.wait()
        await cancel(api, path)
    assert waiting.result().headers["Preference-Applied"] == "wait=60"


async def test_a_stopping_server_answers_what_it_holds(settings: Settings, held: asyncio.Event) -> None:
    async with asyncio.timeout(LONGEST_WAIT), aiohttp.ClientSession() as session:
        async with running(settings.model_copy(update={"port": 0})) as url:
            api = Api(url, session)
            waiting = asyncio.create_task(api.get(await created(api), headers=LONG))
            await held.wait()
        answer = await waiting
    assert (answer.status, answer.json["status"]) == (200, "NotStarted")


async def test_nothing_is_held_for_a_client_that_has_disconnected_before(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    get, lost = Operations.get, Connection.connection_lost

    async def slowly(self: Operations, *named: Any) -> Record:
        reading.set()
        await gone.wait()
        return await get(self, *named)

    def note(self: Connection, error: BaseException | None) -> None:
        lost(self, error)
        gone.set()

    async def wait(*_: Any, **__: Any) -> Record:
        try:
            await asyncio.sleep(AN_HOUR)
        finally:
            ended.set()
        raise AssertionError("it was held")

    path = await created(api)
    monkeypatch.setattr(Operations, "get", slowly)
    monkeypatch.setattr(Operations, "wait", wait)
    monkeypatch.setattr(Connection, "connection_lost", note)
    async with asyncio.timeout(LONGEST_WAIT):
        waiting = asyncio.create_task(api.get(path, headers=LONG))
        await reading.wait()
        waiting.cancel()
        await ended.wait()


async def test_a_client_that_goes_away_frees_what_was_held_for_it(
    api: Api, held: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed, leave = asyncio.Event(), ChangeWaiter.__exit__

    def note(self: ChangeWaiter, *error: object) -> None:
        leave(self, *error)
        freed.set()

    monkeypatch.setattr(ChangeWaiter, "__exit__", note)
    path = await created(api)
    async with asyncio.timeout(LONGEST_WAIT):
        waiting = asyncio.create_task(api.get(path, headers=LONG))
        await held.wait()
        waiting.cancel()
        await freed.wait()
    assert (await api.get(path)).status == 200
