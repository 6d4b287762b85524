"""The API behind nginx and HAProxy, with the files that docs/deploying.md shows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.support.api_client import COLLECTION, Answer
from tests.support.proxies import KINDS, NAME, PREFIX, Proxied, behind, missing
from tests.support.waiting import soon
from tracker.config import Settings
from tracker.events import stream

SILENT_FOR = 12
"""How many comments come without an event. It is more than comes in two of the proxy's timeouts."""
READ = f"GET {PREFIX}{COLLECTION} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer test-token\r\n\r\n"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The proxy. Tests need no package of the system, so they are skipped where a proxy is not installed."""
    if lacking := missing(request.param):
        pytest.skip(f"needs {lacking}")
    return str(request.param)


@pytest.fixture
async def proxied(kind: str, settings: Settings, tmp_path: Path) -> AsyncIterator[Proxied]:
    async with behind(kind, tmp_path, settings) as proxied:
        yield proxied


async def followed(proxied: Proxied, link: str) -> Answer:
    """The response at a link, which must lead through the proxy."""
    assert link.startswith(f"{proxied.api.url}/"), link
    answer = await proxied.api.get(link)
    assert answer.status == 200, answer.body
    return answer


async def test_every_link_leads_back_through_the_proxy(proxied: Proxied) -> None:
    created = [await proxied.api.post(f"/v1.0{COLLECTION}", json={"id": name}) for name in ("a", "b")]
    for header in ("Location", "Operation-Location"):
        assert (await followed(proxied, created[0].headers[header])).json["id"] == "a"
    page = await proxied.api.get(f"/v1.0{COLLECTION}?$top=1")
    assert len((await followed(proxied, page.json["@odata.nextLink"])).json["value"]) == 1
    job = await proxied.api.post("/ogc/processes/microsoft.graph.commsOperation/execution", json={})
    status = await followed(proxied, job.headers["Location"])
    assert {link["rel"] for link in status.json["links"]} >= {"self", "up"}
    for link in status.json["links"]:
        await followed(proxied, link["href"])


async def test_the_description_and_its_page_work_below_the_prefix(proxied: Proxied) -> None:
    description = await proxied.api.get("/openapi.json", token=None)
    assert description.json["servers"][1]["url"] == f"{proxied.api.url}/v1.0"
    page = await proxied.api.get("/docs", token=None)
    assert page.status == 200
    assert (await followed(proxied, urljoin(f"{proxied.api.url}/docs", "docs/assets/page.js"))).body


async def test_an_encoded_slash_in_the_name_of_a_call_stays_encoded(proxied: Proxied) -> None:
    path = "/communications/calls/a%2Fb%20c%25/operations"
    location = (await proxied.api.post(path, json={"id": "x"})).headers["Location"]
    assert location == f"{proxied.api.url}{path}/x"
    assert (await followed(proxied, location)).json["id"] == "x"


async def test_a_link_of_the_greatest_length_passes_the_proxy(proxied: Proxied) -> None:
    for name in "ab":
        await proxied.direct.created(id=name)
    options = "?$top=1&x=".ljust(8174 - len(proxied.api.url) - len(COLLECTION) - 200, "y")
    page = await proxied.api.get(f"{COLLECTION}{options}")
    assert len(page.json["@odata.nextLink"]) > 7900
    assert len((await followed(proxied, page.json["@odata.nextLink"])).json["value"]) == 1
    wide = f"{COLLECTION}?$top=1&$filter=clientContext ne '{'漢' * 240}'&x={'字' * 2000}"
    batch = await proxied.api.post("/$batch", json={"requests": [{"id": "1", "method": "GET", "url": wide}]})
    (response,) = batch.json["responses"]
    assert len((await followed(proxied, response["body"]["@odata.nextLink"])).json["value"]) == 1


async def test_events_come_through_at_once(proxied: Proxied) -> None:
    """The stream is open while its events are read, so no proxy has kept them back."""
    async with proxied.api.stream("/events") as response:
        for name in ("a", "b"):
            await proxied.api.created(id=name)
            while f'"id":"{name}"'.encode() not in (line := await soon(response.content.readline())):
                assert line


async def test_a_stream_without_events_outlives_the_proxy_s_timeouts(
    kind: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle hour on a small scale: comments come five times in the proxy's read timeout, as 15 s in 75 s."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.2)
    async with behind(kind, tmp_path, settings, timeouts="1s") as proxied, proxied.api.stream("/events") as response:
        comments = 0
        while comments < SILENT_FOR:
            line = await soon(response.content.readline())
            assert line, "the stream has ended"
            comments += line.startswith(b":")
        await proxied.direct.created(id="a")
        while b'"id":"a"' not in (line := await soon(response.content.readline())):
            assert line


async def test_a_proxy_whose_timeout_is_too_short_ends_a_silent_stream(
    kind: str, settings: Settings, tmp_path: Path
) -> None:
    """Otherwise the test before could not fail."""
    async with behind(kind, tmp_path, settings, timeouts="1s") as proxied, proxied.api.stream("/events") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await soon(response.read())


async def test_a_held_request_passes_the_proxy(proxied: Proxied) -> None:
    etag = (await proxied.api.post(json={"id": "a"})).headers["ETag"]
    headers = {"Prefer": "wait=60", "If-None-Match": etag}
    held = asyncio.create_task(proxied.api.get(f"{COLLECTION}/a", headers=headers))
    await proxied.direct.request("PATCH", f"{COLLECTION}/a", json={"clientContext": "changed"})
    assert (await soon(held)).json["clientContext"] == "changed"


async def test_the_host_of_the_settings_is_checked_behind_the_proxy(
    kind: str, settings: Settings, tmp_path: Path
) -> None:
    async with behind(kind, tmp_path, settings, public_url=f"https://{NAME}{PREFIX}", trusted_proxies=()) as proxied:
        created = await proxied.api.post(json={})
        assert created.headers["Location"].startswith(f"https://{NAME}{PREFIX}{COLLECTION}/")
        refused = await proxied.api.post(json={}, headers={"Host": "evil.example"})
        assert (refused.status, refused.error["target"]) == (400, "Host")


async def half_closed(port: int, data: str) -> bytes:
    """All that comes from a port of this machine after these bytes and the end of the client's half."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data.encode())
        writer.write_eof()
        return await soon(reader.read())
    finally:
        writer.close()


async def test_a_client_that_closes_its_half_is_answered(kind: str, settings: Settings, tmp_path: Path) -> None:
    more = "proxy_ignore_client_abort on;" if kind == "nginx" else ""
    async with behind(kind, tmp_path, settings, more=more) as proxied:
        assert (await half_closed(proxied.ports.plain, READ)).startswith(b"HTTP/1.1 200 ")


async def test_the_closed_half_of_a_client_may_be_passed_on_to_the_api(settings: Settings, tmp_path: Path) -> None:
    """HAProxy closes its half of the connection to the API, too, when it is a proxy for TCP."""
    if lacking := missing("haproxy"):
        pytest.skip(f"needs {lacking}")
    async with behind("haproxy", tmp_path, settings) as proxied:
        answer = await half_closed(proxied.ports.tcp, READ.replace(PREFIX, ""))
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("header", ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"])
async def test_a_client_cannot_say_through_the_proxy_that_it_is_another(proxied: Proxied, header: str) -> None:
    request = READ.replace("test-token", "wrong").replace("\r\n\r\n", f"\r\n{header}\r\nConnection: close\r\n\r\n")
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxied.ports.plain, local_addr=("127.0.0.2", 0))
        writer.write(request.encode())
        assert b" 401 " in await soon(reader.readline())
        writer.close()
    assert {line["remote"] for line in logs if line["event"] == "request_refused"} == {"127.0.0.2"}
