"""The descriptions of the API over HTTP, and responses compared with them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from typing import Any

import pytest
from odatapy.edm.model import Edm
from odatapy.edm.xml_io import XmlEdmProvider

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tests.support.openapi_checks import disagreements
from tracker.api.links import PREFIXES
from tracker.api.openapi import docs_page
from tracker.api.openapi.docs_page import NOT_INSTALLED, open_page
from tracker.config import Settings
from tracker.domain.operation import Json

PATH = "/communications/calls/{call_id}/operations"
ONE = f"{PATH}/{{operation_id}}"
PROMPT = {"@odata.type": "#microsoft.graph.playPromptOperation", "prompts": [{"mediaInfo": {"uri": "a.wav"}}]}


class Described:
    """Asks an API, and fails when an answer is not as its description says."""

    def __init__(self, api: Api, description: Json) -> None:
        self._api, self._description = api, description

    async def __call__(self, status: int, method: str, path: str, **kwargs: Any) -> Answer:
        names = {"call_id": "call-1", "operation_id": kwargs.pop("id", "a"), "file": "page.js"}
        query = kwargs.pop("query", "")
        answer = await self._api.request(method, path.format(**names) + query, **kwargs)
        assert answer.status == status, answer.body
        assert not disagreements(answer, method, path, self._description)
        return answer


@pytest.fixture
async def ask(api: Api) -> Described:
    return Described(api, (await api.get("/openapi.json", token=None)).json)


async def test_what_a_create_answers_is_as_described(ask: Described) -> None:
    await ask(201, "POST", PATH, json={"id": "a", "clientContext": "x", "free": [1]})
    await ask(200, "POST", PATH, json={"id": "a", "clientContext": "x", "free": [1]})
    await ask(201, "POST", PATH, json={**PROMPT, "id": "p"})
    await ask(400, "POST", PATH, json={"clientContext": 7, "id": "/"})
    await ask(401, "POST", PATH, json={}, token=None)
    await ask(406, "POST", PATH, json={}, headers={"Accept": "text/html"})
    await ask(409, "POST", PATH, json={"id": "a"})
    large = BytesIO(b" " * (2**20 + 1))
    await ask(413, "POST", PATH, data=large, headers={"Content-Type": "application/json"})
    await ask(415, "POST", PATH, data=b"{}", headers={"Content-Type": "text/plain"})
    await ask(417, "POST", PATH, json={}, headers={"Expect": "cake"})
    await ask(501, "POST", PATH, json={}, query="?$apply=x")


async def test_what_a_read_answers_is_as_described(ask: Described) -> None:
    created = await ask(201, "POST", PATH, json={"id": "a", **PROMPT}, headers={"client-request-id": "mine"})
    await ask(200, "GET", ONE, headers={"OData-MaxVersion": "4.01"})
    await ask(200, "GET", ONE, headers={"Prefer": "wait=0"})
    await ask(304, "GET", ONE, headers={"If-None-Match": created.headers["ETag"]})
    await ask(404, "GET", ONE, id="nobody")
    await ask(200, "GET", PATH, query="?$count=true&$top=1", headers={"Prefer": "odata.maxpagesize=5"})
    await ask(400, "GET", PATH, query="?$top=x")
    await ask(200, "GET", "/operations/{operation_id}")
    await ask(404, "GET", "/operations/{operation_id}", id="nobody")


async def test_what_an_end_answers_is_as_described(ask: Described) -> None:
    for name in ("a", "b"):
        await ask(201, "POST", PATH, json={"id": name})
    await ask(400, "POST", f"{ONE}/cancel", json={"reason": 7})
    await ask(202, "POST", f"{ONE}/cancel", json={"reason": "x"})
    await ask(200, "POST", f"{ONE}/cancel")
    await ask(200, "GET", "/operations/{operation_id}")
    await ask(202, "DELETE", "/operations/{operation_id}", id="b")
    await ask(204, "DELETE", "/operations/{operation_id}", id="b")
    await ask(412, "DELETE", ONE, headers={"If-Match": '"77"'})
    await ask(204, "DELETE", ONE)
    await ask(410, "GET", ONE)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/$metadata", "/docs", "/docs/assets/{file}"])
async def test_what_everybody_may_read_is_as_described(ask: Described, path: str) -> None:
    answer = await ask(200, "GET", path, token=None)
    if "ETag" in answer.headers:
        await ask(304, "GET", path, token=None, headers={"If-None-Match": f'"x", W/{answer.headers["ETag"]}'})
        await ask(200, "GET", path, token=None, headers={"If-None-Match": '"x"'})
    assert path in {"/healthz", "/readyz"} or answer.headers["Cache-Control"] == "no-cache"


async def test_readiness_without_redis_is_as_described(settings: Settings) -> None:
    async with open_api(settings, redis_url="redis://127.0.0.1:1/0") as api:
        ask = Described(api, (await api.get("/openapi.json", token=None)).json)
        await ask(503, "GET", "/readyz", token=None)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_the_metadata_is_found_under_every_prefix_that_a_context_names(api: Api, prefix: str) -> None:
    context = (await api.created(f"{prefix}{COLLECTION}"))["@odata.context"]
    answer = await api.get(context.partition("#")[0], token=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/xml; charset=utf-8")
    assert Edm(XmlEdmProvider(answer.body)).schemas
    head = await api.request("HEAD", f"{prefix}/%24metadata", token=None)
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"Accept": "application/xml"}, 200),
        ("", {"Accept": "application/json;q=0.9, */*;q=0.1"}, 200),
        ("", {"Accept": "application/json"}, 406),
        ("", {"Accept": "*/*, application/xml;q=0"}, 406),
        ("?$format=XML", {"Accept": "application/json"}, 200),
        ("?$format=application/xml", {"Accept": "application/json"}, 200),
        ("?$format=json", {}, 406),
        ("?$format=application/json", {"Accept": "application/xml"}, 406),
        ("?$format=anything", {}, 406),
        ("?$format=/google/", {}, 406),
        ("?$filter=x", {}, 501),
        ("?$unknown=x", {}, 400),
        ("?unknown=x", {}, 200),
    ],
)
async def test_the_metadata_is_xml_or_refused(
    ask: Described, query: str, headers: Mapping[str, str], status: int
) -> None:
    await ask(status, "GET", "/$metadata", token=None, query=query, headers=headers)


async def test_the_page_may_load_from_here_only_and_all_that_it_names_is_here(api: Api) -> None:
    answer = await api.get("/docs", token=None)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    text = answer.body.decode()
    assert "//" not in text, "no other host"
    named = [part.split('"')[0] for part in text.split("docs/assets/")[1:]]
    kinds = {name: (await api.get(f"/docs/assets/{name}", token=None)).headers["Content-Type"] for name in named}
    assert kinds == {
        "favicon-32x32.png": "image/png",
        "page.js": "text/javascript; charset=utf-8",
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "swagger-ui.css": "text/css; charset=utf-8",
    }


@pytest.mark.parametrize("name", ["page.html", "..%2fpage.html", "..%2F..%2Fpage.py", "%2e%2e", "index.css", "%00"])
async def test_only_the_pages_own_files_can_be_asked_for(api: Api, name: str) -> None:
    answer = await api.get(f"/docs/assets/{name}", token=None)
    assert (answer.status, answer.error["code"]) == (404, "notFound")


async def test_without_its_files_the_page_says_how_to_have_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs_page, "FILES_PACKAGE", "no_such_package")
    async with open_api(settings) as api:
        ask = Described(api, json.loads((await api.get("/openapi.json", token=None)).body))
        for path in ("/docs", "/docs/assets/{file}"):
            assert (await ask(404, "GET", path, token=None)).error["message"] == NOT_INSTALLED


@pytest.mark.parametrize("carrier", ["tracker", "json", "this"])
def test_a_package_without_the_files_is_treated_as_missing(monkeypatch: pytest.MonkeyPatch, carrier: str) -> None:
    monkeypatch.setattr(docs_page, "FILES_PACKAGE", carrier)
    assert open_page()._files == {}


async def test_answers_changed_by_preferences_are_as_described(ask: Described) -> None:
    once = {
        "Repeatability-Request-ID": "1",
        "Repeatability-First-Sent": format_datetime(datetime.now(UTC), usegmt=True),
    }
    await ask(204, "POST", PATH, json={"id": "a"}, headers={"Prefer": "return=minimal"})
    await ask(202, "POST", PATH, json={"id": "b"}, headers={"Prefer": "respond-async, return=minimal"})
    await ask(202, "POST", PATH, json={"id": "c"}, headers={"Prefer": "respond-async, wait=0"})
    await ask(400, "POST", PATH, json={"status": "x"}, headers={"Prefer": "handling=strict", **once})
    await ask(201, "POST", PATH, json={}, headers={"Prefer": "handling=strict", **once})
    await ask(400, "POST", PATH, json={"x": 1}, headers=once)
    late = {**once, "Repeatability-First-Sent": "Sun, 06 Nov 1994 08:49:37 GMT"}
    await ask(412, "POST", PATH, json={"x": 1}, headers=late)
    await ask(201, "POST", PATH, json={}, headers={"Idempotency-Key": "k"})
    await ask(409, "POST", PATH, json={"x": 1}, headers={"Idempotency-Key": "k"})


async def test_what_a_change_answers_is_as_described(ask: Described) -> None:
    created = await ask(201, "POST", PATH, json={"id": "a"})
    await ask(200, "PATCH", ONE, json=created.json)
    await ask(204, "PATCH", ONE, json={"free": 1}, headers={"Prefer": "return=minimal"})
    await ask(412, "PATCH", ONE, json={"free": 2}, headers={"If-Match": created.headers["ETag"]})
    await ask(400, "PATCH", ONE, json={"clientContext": 7})
    await ask(404, "PATCH", ONE, id="nobody", json={})
    await ask(415, "PATCH", ONE, data=b"{}", headers={"Content-Type": "text/plain"})
