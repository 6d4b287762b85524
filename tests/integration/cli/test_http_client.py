"""The HTTP client of the command line, against a server that answers by a script."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from tests.support.api_client import COLLECTION, Api
from tracker.cli import http_client
from tracker.cli.http_client import Client
from tracker.cli.output import CommandFailed, Exit

Json = dict[str, Any]
RUNNING: Json = {"id": "1", "status": "Running", "percentComplete": 40}
COMPLETED: Json = {"id": "1", "status": "Completed"}


class Script:
    """Answers one request after the other, the last for ever; keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.asked: list[web.Request] = []
        self.bodies: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.bodies.append(await request.text())
        recipe = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=recipe.status, body=recipe.body, headers=recipe.headers)

    def then(self, status: int, body: Json | None = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append(
            web.json_response(body, status=status, headers=named)
            if body
            else web.Response(status=status, headers=named)
        )


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def cli(script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(http_client, "PAUSE", 0.01)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    async with TestServer(app) as server, Client(str(server.make_url("/")), "secret") as connected:
        yield connected


def refusal(message: str, **error: Any) -> Json:
    return {"error": {"code": "whatever", "message": message, **error}}


async def test_names_are_escaped_and_the_token_is_sent(cli: Client, script: Script) -> None:
    script.then(200, COMPLETED)
    assert await cli.get("a/b c%ü", "1.~") == COMPLETED
    (request,) = script.asked
    assert request.raw_path == "/v1.0/communications/calls/a%2Fb%20c%25%C3%BC/operations/1.~"
    assert request.headers["Authorization"] == "Bearer secret"


async def test_a_list_is_filtered_by_the_members_that_are_asked_for(cli: Client, script: Script) -> None:
    script.then(200, {"value": []})
    await cli.list("call", {"status": "Failed", "clientContext": "it's"}, 7)
    await cli.list("call", {"status": None, "clientContext": None}, 100)
    assert dict(script.asked[0].query) == {
        "$top": "7",
        "$filter": "status eq 'Failed' and clientContext eq 'it''s'",
    }
    assert dict(script.asked[1].query) == {"$top": "100"}


async def test_create_and_cancel_send_their_bodies(cli: Client, script: Script) -> None:
    script.then(201, RUNNING)
    assert await cli.create("call", {"clientContext": "x"}) == RUNNING
    await cli.cancel("call", "1", "enough")
    await cli.cancel("call", "1", None)
    assert [request.method for request in script.asked] == ["POST"] * 3
    assert script.asked[1].path.endswith("/operations/1/cancel")
    assert script.bodies == ['{"clientContext": "x"}', '{"reason": "enough"}', "{}"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Exit.REFUSED),
        (401, Exit.REFUSED),
        (404, Exit.NOT_FOUND),
        (409, Exit.REFUSED),
        (410, Exit.NOT_FOUND),
        (500, Exit.UNREACHABLE),
        (503, Exit.UNREACHABLE),
    ],
)
async def test_a_refusal_ends_with_its_exit_code_and_the_servers_words(
    cli: Client, script: Script, status: int, code: Exit
) -> None:
    script.then(status, refusal("so it is", details=[{"target": "prompts[0]", "message": "no such file"}]))
    with pytest.raises(CommandFailed, match=rf"{status} .*: so it is; prompts\[0\]: no such file") as stop:
        await cli.get("call", "1")
    assert stop.value.code is code


async def test_a_refusal_without_a_body_is_reported_too(cli: Client, script: Script) -> None:
    script.then(502)
    with pytest.raises(CommandFailed, match="502 Bad Gateway"):
        await cli.get("call", "1")


async def test_wait_shows_every_state_and_returns_the_last(cli: Client, script: Script) -> None:
    script.then(200, RUNNING, ETag='W/"1"')
    script.then(304)
    script.then(200, COMPLETED, ETag='W/"2"')
    seen: list[Json] = []
    assert await cli.wait("call", "1", 60, seen.append) == COMPLETED
    assert seen == [RUNNING, COMPLETED]
    assert [request.headers.get("If-None-Match") for request in script.asked] == [None, 'W/"1"', 'W/"1"']
    assert {request.headers["Prefer"] for request in script.asked} == {"wait=30"}


async def test_wait_outlives_a_server_that_is_away(cli: Client, script: Script) -> None:
    script.then(503, refusal("The store cannot be reached."))
    script.then(503, refusal("The store cannot be reached."))
    script.then(200, COMPLETED)
    assert await cli.wait("call", "1", 60, lambda _: None) == COMPLETED


async def test_wait_does_not_outlive_a_refusal(cli: Client, script: Script) -> None:
    script.then(410, refusal("It is gone."))
    with pytest.raises(CommandFailed) as stop:
        await cli.wait("call", "1", 60, lambda _: None)
    assert stop.value.code is Exit.NOT_FOUND


@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_wait_ends_when_the_time_is_up(cli: Client, script: Script, seconds: float) -> None:
    script.then(200, RUNNING)
    with pytest.raises(CommandFailed, match="is not final after") as stop:
        await cli.wait("call", "1", seconds, lambda _: None)
    assert stop.value.code is Exit.TIMED_OUT


async def test_wait_for_a_server_that_stays_away_is_unreachable() -> None:
    async with Client(f"http://127.0.0.1:{unused_port()}", "") as cli:
        with pytest.raises(CommandFailed) as stop:
            await cli.wait("call", "1", 0.05, lambda _: None)
    assert stop.value.code is Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("url", "token"), [("http://[", ""), ("http://h:99999", ""), ("ftp://h", ""), ("", "two\nlines")]
)
async def test_an_address_or_token_of_no_use_is_a_usage_error(api: Api, url: str, token: str) -> None:
    async with Client(url or api.url, token) as cli:
        with pytest.raises(CommandFailed) as stop:
            await cli.get("call", "id")
    assert stop.value.code is Exit.USAGE


async def test_a_wait_may_have_no_time_limit(api: Api) -> None:
    operation = await api.created()
    await api.post(f"{COLLECTION}/{operation['id']}/cancel")
    async with Client(api.url, "test-token") as cli:
        ended = await cli.wait("call-1", operation["id"], float("inf"), lambda _: None)
    assert ended["status"] == "Failed"
