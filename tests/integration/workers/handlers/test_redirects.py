"""Redirects that a media server answers with."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tracker.config import Settings
from workers.handlers import sources
from workers.handlers.media import MediaError, MediaSubcode


@pytest.mark.parametrize("location", ["mailto:x@y", "data:,x", "javascript:x", "file:///etc/passwd"])
async def test_a_redirect_to_what_is_no_server_is_refused(location: str) -> None:
    result = await refused_redirect(location)
    assert result.subcode is MediaSubcode.UNREADABLE


async def test_a_redirect_may_not_bring_credentials() -> None:
    result = await refused_redirect("http://:password@{host}/else")
    assert result.subcode is MediaSubcode.UNREADABLE


async def refused_redirect(location: str) -> MediaError:
    async def redirect(request: web.Request) -> web.Response:
        if request.path == "/else":
            return web.Response(body=b"followed")
        return web.Response(status=302, headers={"Location": location.format(host=request.host)})

    app = web.Application()
    app.router.add_get("/{path:.*}", redirect)
    async with TestServer(app) as server:
        settings = Settings(media_hosts=(f"{server.host}:{server.port}",))
        with pytest.raises(MediaError) as refused:
            await sources.read(str(server.make_url("/a.wav")), settings, lambda _: None)
    return refused.value
