"""Tokens that are removed while the API runs, and addresses that guess tokens."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.support.api_client import AN_HOUR, COLLECTION, Api, open_api
from tests.support.waiting import eventually, soon
from tracker.api import token_reload
from tracker.api.held_requests import HeldRequest
from tracker.config import Settings

LEAVING = "leaving-token"
LONG = {"Prefer": f"wait={AN_HOUR}"}
pytestmark = pytest.mark.usefixtures("waits_of_an_hour")


def line(token: str, tenant: str = "test") -> str:
    return f"{token}:{tenant}:{sha256(token.encode()).hexdigest()}\n"


class Tokens:
    """The file of tokens, and the API that reads it."""

    def __init__(self, api: Api, file: Path) -> None:
        self.api, self._file = api, file

    def remove(self) -> None:
        self._file.write_text("# nobody\n")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Released each time a request is held."""
    semaphore, enter = asyncio.Semaphore(0), HeldRequest.__enter__

    def note(self: HeldRequest) -> None:
        enter(self)
        semaphore.release()

    monkeypatch.setattr(HeldRequest, "__enter__", note)
    return semaphore


@pytest.fixture
async def tokens(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tokens]:
    monkeypatch.setattr(token_reload, "POLL_INTERVAL", 0.01)
    file = tmp_path / "tokens"
    file.write_text(line(LEAVING))
    async with open_api(settings, tokens_file=file) as api:
        yield Tokens(api, file)


@asynccontextmanager
async def connection(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with one connection, which it keeps."""
    async with aiohttp.ClientSession(api.url, connector=aiohttp.TCPConnector(limit=1)) as session:
        yield session


async def test_the_next_request_of_a_removed_token_is_refused_on_an_open_connection_too(tokens: Tokens) -> None:
    headers = {"Authorization": f"Bearer {LEAVING}"}
    async with connection(tokens.api) as session:

        async def status() -> int:
            async with session.get(COLLECTION, headers=headers) as response:
                await response.read()
                return response.status

        async def is_refused() -> bool:
            return await status() == 401

        assert await status() == 200
        tokens.remove()
        await eventually(is_refused)
    assert (await tokens.api.get(COLLECTION)).status == 200


async def test_a_wait_of_a_removed_token_ends(tokens: Tokens, held: asyncio.Semaphore) -> None:
    path = f"{COLLECTION}/{(await tokens.api.created())['id']}"
    mine = asyncio.create_task(tokens.api.get(path, headers=LONG, token=LEAVING))
    others = asyncio.create_task(tokens.api.get(path, headers=LONG))
    for _ in (mine, others):
        await soon(held.acquire())
    tokens.remove()
    answer = await soon(mine)
    assert (answer.status, answer.error["code"]) == (401, "unauthorized")
    assert not others.done()
    await tokens.api.post(f"{path}/cancel")
    assert (await soon(others)).status == 200


async def test_a_create_that_waits_says_that_it_was_created(tokens: Tokens, held: asyncio.Semaphore) -> None:
    headers = {"Prefer": f"respond-async, wait={AN_HOUR}"}
    mine = asyncio.create_task(tokens.api.post(json={"id": "mine"}, headers=headers, token=LEAVING))
    await soon(held.acquire())
    tokens.remove()
    assert (await soon(mine)).status == 202
    assert (await tokens.api.get(f"{COLLECTION}/mine")).status == 200


async def test_a_wait_of_googles_dialect_ends_in_its_form(tokens: Tokens, held: asyncio.Semaphore) -> None:
    path = f"/google/calls/call-1/operations/{(await tokens.api.created())['id']}:wait"
    mine = asyncio.create_task(tokens.api.post(path, json={"timeout": f"{AN_HOUR}s"}, token=LEAVING))
    await soon(held.acquire())
    tokens.remove()
    answer = await soon(mine)
    assert (answer.status, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_a_batch_of_a_removed_token_ends(tokens: Tokens, held: asyncio.Semaphore) -> None:
    path = f"{COLLECTION}/{(await tokens.api.created())['id']}"
    waits = {"id": "1", "method": "GET", "url": path, "headers": LONG}
    after = {"id": "2", "method": "GET", "url": path, "dependsOn": ["1"]}
    body = {"requests": [waits, after]}
    mine = asyncio.create_task(tokens.api.post("/$batch", json=body, token=LEAVING))
    await soon(held.acquire())
    tokens.remove()
    assert [part["status"] for part in (await soon(mine)).json["responses"]] == [401, 424]


async def test_a_stream_of_a_removed_token_is_closed(tokens: Tokens, held: asyncio.Semaphore) -> None:
    async with connection(tokens.api) as session:
        headers = {"Authorization": f"Bearer {LEAVING}"}
        async with session.get("/events", headers=headers) as mine:
            assert mine.status == 200
            await soon(held.acquire())
            tokens.remove()
            with pytest.raises(aiohttp.ClientPayloadError):
                await soon(mine.read())
        async with session.get("/events", headers=headers) as again:
            assert again.status == 401


async def wrong(api: Api, token: str = "wrong", **headers: str) -> int:
    answer = await api.get(COLLECTION, token=token, headers={name.replace("_", "-"): headers[name] for name in headers})
    if answer.status == 429:
        assert answer.error["code"] == "tooManyRequests"
        assert int(answer.headers["Retry-After"]) >= 1
    return answer.status


async def test_an_address_that_guesses_is_answered_429_and_a_known_token_of_it_is_served(api: Api) -> None:
    assert [await wrong(api, f"guess-{number}") for number in range(20)] == [401] * 20
    assert [await wrong(api, f"guess-{number}") for number in range(20, 40)] == [429] * 20
    assert (await api.get(COLLECTION)).status == 200
    assert (await api.get(COLLECTION, token=None)).status == 401
    assert (await api.request("OPTIONS", COLLECTION, token="wrong")).status == 429
    assert (await api.get("/healthz", token="wrong")).status == 200


async def test_each_dialect_says_that_there_were_too_many_guesses(settings: Settings) -> None:
    async with open_api(settings, wrong_tokens=1) as api:
        assert await wrong(api) == 401
        google = await api.get("/google/calls/call-1/operations", token="wrong")
        ogc = await api.get("/ogc/jobs", token="wrong")
    assert (google.status, google.json["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert (ogc.status, json.loads(ogc.body)["status"]) == (429, 429)
    for answer in (google, ogc):
        assert int(answer.headers["Retry-After"]) >= 1


async def test_behind_a_proxy_each_client_is_slowed_down_by_itself(settings: Settings) -> None:
    async with open_api(settings, wrong_tokens=1, trusted_proxies=("127.0.0.1",)) as api:
        assert [await wrong(api, X_Forwarded_For="192.0.2.1") for _ in range(2)] == [401, 429]
        assert await wrong(api, X_Forwarded_For="192.0.2.1, 192.0.2.2") == 401
        assert await wrong(api, Forwarded='for="192.0.2.1"') == 429
        assert [await wrong(api) for _ in range(5)] == [401] * 5
        assert (await api.get(COLLECTION, headers={"X-Forwarded-For": "192.0.2.1"})).status == 200


async def test_a_client_cannot_say_that_it_is_another(settings: Settings) -> None:
    async with open_api(settings, wrong_tokens=1) as api:
        found = [await wrong(api, X_Forwarded_For=f"192.0.2.{number}") for number in range(3)]
    assert found == [401, 429, 429]


def refusals(logs: Any) -> list[Any]:
    return [entry for entry in logs if entry["event"] == "request_refused"]


async def test_refusals_are_logged_with_client_route_and_reason_and_without_a_token(settings: Settings) -> None:
    with capture_logs() as logs:
        async with open_api(settings) as api:
            for number in range(30):
                assert await wrong(api, f"guess-{number}") in {401, 429}
            for _ in range(5):
                assert (await api.get(f"{COLLECTION}?$filter=(")).status == 400
            assert (await api.get("/ogc/jobs?limit=0&x=y")).status == 400
            await api.post("/$batch", json={"requests": [{"id": "1", "method": "X", "url": "/"}]}, token="other-token")
            assert b" 400 " in await api.raw(b"nonsense\r\n\r\n")
    seen = [
        (entry["status"], entry.get("caller") or entry["remote"], entry.get("suppressed")) for entry in refusals(logs)
    ]
    assert seen == [
        (401, "127.0.0.1", None),
        (429, "127.0.0.1", None),
        (400, "test", None),
        (400, "other", None),
        (400, "127.0.0.1", None),
        (401, "127.0.0.1", 19),
        (429, "127.0.0.1", 9),
        (400, "test", 5),
    ]
    first, _, third, *_ = refusals(logs)
    assert first["route"] == "/communications/calls/{call_id}/operations"
    assert first["reason"] == "The token is not known here."
    assert third["reason"].startswith("$filter")
    assert "guess-" not in str(logs)


async def test_what_is_answered_otherwise_is_not_logged_as_refused(settings: Settings) -> None:
    with capture_logs() as logs:
        async with open_api(settings) as api:
            assert (await api.get(f"{COLLECTION}/nothing")).status == 404
            assert (await api.get("/nowhere")).status == 404
            assert (await api.created())["id"]
    assert refusals(logs) == []
