"""Responses in a batch whose bodies are not JSON."""

from base64 import b64decode
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.support.api_client import Api, open_api
from tracker.api import routes
from tracker.api.guard import Route
from tracker.config import Settings
from tracker.domain.operation import Json


async def text(_: web.Request) -> web.Response:
    return web.Response(text='7 "ü"')


async def markup(_: web.Request) -> web.Response:
    return web.Response(body=b"<\xfb\xff>", content_type="application/xml")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    raise AssertionError("a stream in a batch is not begun")


async def unbegun(_: web.Request) -> web.StreamResponse:
    return web.StreamResponse()


async def failing(_: web.Request) -> web.StreamResponse:
    raise ZeroDivisionError("a secret")


async def twice(_: web.Request) -> web.Response:
    response = web.Response()
    response.headers.extend([("Vary", "Prefer"), ("Vary", "Accept")])
    return response


@pytest.fixture
async def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    added = [
        Route("GET", f"/{handler.__name__}", handler, "isHealthy")
        for handler in (text, markup, stream, unbegun, failing, twice)
    ]
    monkeypatch.setattr(routes, "ROUTES", (*routes.ROUTES, *added))
    async with open_api(settings) as api:
        yield api


async def answered(api: Api, url: str) -> Json:
    answer = await api.post("/$batch", json={"requests": [{"id": "1", "method": "GET", "url": url}]})
    response: Json = answer.json["responses"][0]
    return response


async def test_text_is_base64_because_graph_s_clients_read_it_so(api: Api) -> None:
    response = await answered(api, "/text")
    assert (response["status"], b64decode(response["body"], validate=True).decode()) == (200, '7 "ü"')
    assert response["headers"]["content-type"] == "text/plain; charset=utf-8"


async def test_other_bytes_are_base64(api: Api) -> None:
    response = await answered(api, "/markup")
    assert (response["status"], response["body"]) == (200, "PPv/Pg==")


@pytest.mark.parametrize("url", ["/stream", "/unbegun"])
async def test_a_stream_is_refused(api: Api, url: str) -> None:
    response = await answered(api, url)
    assert (response["status"], response["body"]["error"]["code"]) == (400, "badRequest")


async def test_an_unexpected_error_fails_only_its_request_and_shows_no_detail(api: Api) -> None:
    response = await answered(api, "/failing")
    assert response["status"] == 500
    assert "secret" not in str(response)


async def test_headers_that_come_twice_are_joined(api: Api) -> None:
    response = await answered(api, "/twice")
    assert (response["headers"]["vary"], response["body"]) == ("Prefer, Accept", None)
