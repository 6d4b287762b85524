"""The handler of playPrompt with real files and a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tracker import Context, Rejected, ResultInfo, Retry
from workers.handlers.media import MediaSubcode
from workers.handlers.play_prompt import PlayPrompt, play_prompt

MEDIA = Path(__file__).parents[4] / "examples" / "media"
WELCOME = (MEDIA / "welcome.wav").read_bytes()


class Reports:
    """A context that keeps what is reported."""

    def __init__(self) -> None:
        self.percents: list[float | None] = []
        self.details: list[str] = []

    async def progress(self, percent: float | None = None, detail: str = "") -> None:
        self.percents.append(percent)
        self.details.append(detail)


def operation(*uris: str, **members: Any) -> PlayPrompt:
    prompts = [{"mediaInfo": {"uri": uri}} for uri in uris]
    return PlayPrompt.from_members({"prompts": prompts, **members}, "context")


async def run(playing: PlayPrompt, reports: Reports) -> ResultInfo:
    return await play_prompt(playing, cast("Context", reports))


async def play(*uris: str) -> tuple[PlayPrompt, ResultInfo, Reports]:
    playing, reports = operation(*uris), Reports()
    return playing, await run(playing, reports), reports


async def rejection(*uris: str) -> tuple[ResultInfo, str | None]:
    playing = operation(*uris)
    with pytest.raises(Rejected) as rejected:
        await run(playing, Reports())
    return rejected.value.result, playing.completion_reason


@pytest.fixture(autouse=True)
def media_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_MEDIA_DIR", str(MEDIA))
    monkeypatch.setenv("TRACKER_PLAYBACK_SPEED", "10")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A media server; the fixture's value is its address, which is on the list."""
    elsewhere = TestServer(_application("http://nowhere.invalid"))
    await elsewhere.start_server()
    main = TestServer(_application(f"http://127.0.0.1:{elsewhere.port}"))
    await main.start_server()
    monkeypatch.setenv("TRACKER_MEDIA_HOSTS", f"127.0.0.1:{main.port}")
    monkeypatch.setenv("TRACKER_MEDIA_MAX_BYTES", str(len(WELCOME)))
    yield f"http://127.0.0.1:{main.port}"
    await main.close()
    await elsewhere.close()


def _application(elsewhere: str) -> web.Application:
    async def media(_request: web.Request) -> web.Response:
        return web.Response(body=WELCOME)

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]), body=WELCOME)

    async def hops(request: web.Request) -> web.Response:
        left = int(request.match_info["left"])
        raise web.HTTPFound("/welcome.wav" if left == 1 else f"/hops/{left - 1}")

    async def away(_request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{elsewhere}/welcome.wav")

    async def no_location(_request: web.Request) -> web.Response:
        return web.Response(status=302)

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(WELCOME)
        while True:
            await answer.write(bytes(65536))

    async def cut_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(WELCOME))})
        await answer.prepare(request)
        await answer.write(WELCOME[:1000])
        assert request.transport is not None
        request.transport.close()
        return answer

    application = web.Application()
    for path, handler in {
        "/welcome.wav": media, "/status/{status}": status, "/hops/{left}": hops, "/away": away,
        "/no-location": no_location, "/endless": endless, "/cut-off": cut_off,
    }.items():  # fmt: skip
        application.router.add_get(path, handler)
    return application


async def test_a_file_is_played_to_its_end() -> None:
    playing, result, reports = await play("welcome.wav")
    assert (result.code, result.subcode, result.message) == (200, 0, "Action completed successfully.")
    assert playing.completion_reason == "completedSuccessfully"
    assert reports.percents[-1] == 100
    assert len(reports.percents) == 3


async def test_files_and_servers_may_be_mixed(server: str) -> None:
    _, result, reports = await play("welcome.wav", f"{server}/welcome.wav", f"{server}/hops/3")
    assert result.code == 200
    assert reports.details[-1] == "prompt 3 of 3"


async def test_one_wrong_prompt_fails_before_anything_is_played() -> None:
    playing, reports = operation("welcome.wav", "welcome.wav", "wrong-rate.wav"), Reports()
    with pytest.raises(Rejected) as rejected:
        await run(playing, reports)
    assert rejected.value.result == ResultInfo(
        code=400,
        subcode=MediaSubcode.WRONG_FORMAT,
        message="prompt 3 (wrong-rate.wav): expected PCM 16-bit mono 16 kHz, found PCM 16-bit stereo 44.1 kHz",
    )
    assert playing.completion_reason == "unknown"
    assert reports.percents == []


@pytest.mark.parametrize(
    ("path", "subcode"),
    [
        ("/missing.wav", MediaSubcode.NOT_FOUND),
        ("/status/410", MediaSubcode.NOT_FOUND),
        ("/status/403", MediaSubcode.UNREADABLE),
        ("/status/206", MediaSubcode.UNREADABLE),
        ("/hops/4", MediaSubcode.UNREADABLE),
        ("/away", MediaSubcode.UNREADABLE),
        ("/no-location", MediaSubcode.UNREADABLE),
        ("/endless", MediaSubcode.TOO_LARGE),
    ],
)
async def test_what_a_server_can_never_give_is_rejected(server: str, path: str, subcode: MediaSubcode) -> None:
    result, reason = await rejection("welcome.wav", server + path)
    assert (result.code, result.subcode, reason) == (400, subcode, "unknown")
    assert result.message.startswith(f"prompt 2 ({server}{path}): ")


@pytest.mark.usefixtures("server")
async def test_another_port_of_the_same_host_is_another_server() -> None:
    result, _ = await rejection("http://127.0.0.1:1/welcome.wav")
    assert result.subcode == MediaSubcode.NOT_ALLOWED


@pytest.mark.parametrize("path", ["/status/500", "/status/503", "/status/429", "/cut-off"])
async def test_what_a_server_may_give_later_is_tried_again(server: str, path: str) -> None:
    with pytest.raises(Retry, match=r"^prompt 1 \(http://127.0.0.1:\d+/"):
        await run(operation(server + path), Reports())


async def test_a_server_that_is_down_is_tried_again(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setenv("TRACKER_MEDIA_HOSTS", f"127.0.0.1:{unused_tcp_port}")
    uri = f"http://127.0.0.1:{unused_tcp_port}/a.wav"
    with pytest.raises(Retry, match="cannot be reached"):
        await run(operation(uri), Reports())


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.handlers.sources.FETCH_TIMEOUT", 0.05)
    released = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        monkeypatch.setenv("TRACKER_MEDIA_HOSTS", f"127.0.0.1:{port}")
        with pytest.raises(Retry, match=r"within 0\.05 s"):
            await run(operation(f"http://127.0.0.1:{port}/"), Reports())
        released.set()


async def test_a_cancel_ends_a_loop() -> None:
    class UntilTheSecondPass(Reports):
        async def progress(self, percent: float | None = None, detail: str = "") -> None:
            await super().progress(percent, detail)
            if detail == "pass 2":
                playing.cancel()

    reports = UntilTheSecondPass()
    playing = asyncio.ensure_future(run(operation("welcome.wav", loop=True), reports))
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert set(reports.percents) == {None}
