"""Requests for another host, and requests that pages of other sites send, over HTTP and in the form of each dialect."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tracker.config import Settings

EVIL = {"Host": "evil.example"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
READS = [
    *(
        COLLECTION,
        f"/beta{COLLECTION}",
        f"{COLLECTION}/$count",
        f"{COLLECTION}/a",
        "/operations/a",
        "/$metadata",
        "/docs",
    ),
    *("/openapi.json", "/nothing", "/docs/assets/page.js", "/", "*"),
]
STREAMS = ["/events", f"{COLLECTION}/events", f"{COLLECTION}/a/events"]
CHANGES = [
    *(
        ("POST", COLLECTION),
        ("POST", f"{COLLECTION}/a/cancel"),
        ("DELETE", f"{COLLECTION}/a"),
        ("DELETE", "/operations/a"),
    ),
    *(("PATCH", f"{COLLECTION}/a"), ("POST", "/$batch"), ("POST", "/communications/calls/c/playPrompt")),
]
DIALECTS = [
    *(
        ("POST", "/google/operations/a:cancel"),
        ("POST", "/google/operations/a:wait"),
        ("DELETE", "/google/operations/a"),
    ),
    *(("POST", "/google/calls/call-1/operations/a:cancel"), ("DELETE", "/ogc/jobs/a"), ("POST", "/google/nothing")),
    ("POST", "/ogc/processes/microsoft.graph.commsOperation/execution"),
]


@pytest.fixture
async def open_to_all(settings: Settings) -> AsyncIterator[Api]:
    """An API without tokens, with an operation `a` that has not ended."""
    async with open_api(settings, auth="none") as api:
        await api.created(id="a")
        yield api


async def is_untouched(api: Api) -> bool:
    """Whether the operation `a` is as it was made, and no other operation was made."""
    operations = (await api.get(COLLECTION)).json["value"]
    return [(each["id"], each["status"], "cancelRequestedDateTime" in each) for each in operations] == [
        ("a", "NotStarted", False)
    ]


def refusal(answer: Answer, path: str) -> tuple[int, str]:
    """Status and code of an error, after a check that the error has the form of the path's dialect."""
    body: dict[str, Any] = json.loads(answer.body)
    if path.startswith("/google"):
        assert body["error"]["code"] == answer.status
        return answer.status, body["error"]["status"]
    if path.startswith("/ogc"):
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        return answer.status, body["title"]
    return answer.status, answer.error["code"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", READS)
async def test_without_tokens_nothing_is_read_under_another_host(open_to_all: Api, method: str, path: str) -> None:
    answer = await open_to_all.raw(
        f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.split(b" ")[1] == b"400"


@pytest.mark.parametrize("path", [*STREAMS, f"{COLLECTION}/a"])
async def test_without_tokens_nothing_is_held_or_streamed_under_another_host(open_to_all: Api, path: str) -> None:
    answer = await open_to_all.get(path, headers={**EVIL, "Prefer": "wait=60"})
    assert (answer.status, answer.error["target"]) == (400, "Host")


@pytest.mark.parametrize(
    ("method", "path"), [*CHANGES, *DIALECTS, ("GET", "/google/operations/a"), ("GET", "/ogc/jobs")]
)
async def test_without_tokens_nothing_is_changed_under_another_host(open_to_all: Api, method: str, path: str) -> None:
    answer = await open_to_all.request(method, path, headers=EVIL, json={})
    assert refusal(answer, path) in {(400, "badRequest"), (400, "INVALID_ARGUMENT"), (400, "Bad Request")}
    assert await is_untouched(open_to_all)


@pytest.mark.parametrize(("method", "path"), [*CHANGES, *DIALECTS])
async def test_without_tokens_a_page_of_another_site_changes_nothing(open_to_all: Api, method: str, path: str) -> None:
    """A form has no body of JSON, and the cancels of all dialects need no body."""
    for headers in (FORM, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = await open_to_all.request(method, path, headers=headers)
        assert refusal(answer, path) in {(403, "forbidden"), (403, "PERMISSION_DENIED"), (403, "Forbidden")}
    assert await is_untouched(open_to_all)


async def test_the_requests_of_a_batch_are_not_asked_for_their_site(open_to_all: Api) -> None:
    requests = [{"id": "1", "method": "POST", "url": f"{COLLECTION}/a/cancel", "headers": {"Host": "evil.example"}}]
    answer = await open_to_all.post("/$batch", json={"requests": requests})
    assert [each["status"] for each in answer.json["responses"]] == [202]


async def test_an_empty_body_needs_no_content_type(open_to_all: Api) -> None:
    assert (await open_to_all.post(f"{COLLECTION}/a/cancel", headers={"Content-Type": "text/plain"})).status == 202
    await open_to_all.created(id="b")
    assert (await open_to_all.post("/google/operations/b:cancel", skip_auto_headers=["Content-Type"])).status == 200


async def test_a_request_to_upgrade_is_a_request_like_any_other(open_to_all: Api) -> None:
    head = "GET /events HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    assert (await open_to_all.raw(f"{head}\r\n".encode())).split(b" ")[1] == b"400"


@pytest.mark.parametrize("target", ["http://evil.example//beta", "http://evil.example"])
async def test_a_url_of_another_host_as_the_target_is_refused(open_to_all: Api, target: str) -> None:
    head = f"GET {target}{COLLECTION} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await open_to_all.raw(head.encode())).split(b" ")[1] == b"400"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_answered_under_any_host(open_to_all: Api, path: str) -> None:
    assert (await open_to_all.get(path, headers=EVIL)).status == 200


async def test_a_host_of_the_settings_is_answered_without_tokens(settings: Settings) -> None:
    async with open_api(settings, auth="none", allowed_hosts=("tracker.local",)) as api:
        answer = await api.post(json={}, headers={"Host": "tracker.local:8080", "Origin": "http://tracker.local:8080"})
        assert answer.headers["Location"].startswith(f"http://tracker.local:8080{COLLECTION}/")
        assert (await api.post(json={}, headers=EVIL)).status == 400


async def test_with_tokens_any_host_is_answered_until_the_settings_name_one(api: Api, settings: Settings) -> None:
    assert (await api.post(json={}, headers={**EVIL, "Origin": "https://other.example"})).status == 201
    for change in ({"allowed_hosts": ("*.example.org",)}, {"public_url": "https://ops.example.org"}):
        async with open_api(settings, **change) as restricted:
            assert (await restricted.post(json={}, headers=EVIL)).error["target"] == "Host"
            assert (await restricted.post(json={}, headers=EVIL, token=None)).status == 400
            assert (await restricted.get("/healthz", headers=EVIL, token=None)).status == 200
            assert (await restricted.post(json={}, headers={"Host": "ops.example.org"})).status == 201
