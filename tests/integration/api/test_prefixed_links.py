"""Links behind a proxy that serves the API below a path: each link must lead back through the proxy."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tracker.config import Settings

ORIGIN = "https://ops.example.org:8443"
BASE = f"{ORIGIN}/team/tracker"
SPELLINGS: list[Mapping[str, str]] = [
    {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ops.example.org:8443", "X-Forwarded-Prefix": "/team/tracker"},
    {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "ops.example.org",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Prefix": "/team/tracker/",
    },
    {"Forwarded": 'proto=https;host="ops.example.org:8443"', "X-Forwarded-Prefix": "/team/tracker"},
    {"X-Forwarded-Proto": "https", "Host": "ops.example.org:8443", "X-Forwarded-Prefix": "/team/tracker"},
]
GET_ONE = {"id": "1", "method": "GET"}


class Proxied:
    """A client behind a proxy that removes the prefix from paths."""

    def __init__(self, api: Api, headers: Mapping[str, str]) -> None:
        self._api, self._headers = api, headers

    async def __call__(self, method: str, path: str, **kwargs: Any) -> Answer:
        headers = {**self._headers, **kwargs.pop("headers", {})}
        return await self._api.request(method, path.removeprefix(BASE), headers=headers, **kwargs)

    async def followed(self, link: str) -> Answer:
        """The response at a link, which must lead through the proxy."""
        assert link.startswith(f"{BASE}/"), link
        answer = await self("GET", link)
        assert answer.status == 200, answer.body
        return answer


@pytest.fixture(params=SPELLINGS)
async def proxied(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Proxied]:
    async with open_api(settings, trusted_proxies=("127.0.0.1",)) as api:
        yield Proxied(api, request.param)


@pytest.mark.parametrize("version", ["", "/v1.0", "/beta"])
async def test_graph_s_links_lead_back_through_the_proxy(proxied: Proxied, version: str) -> None:
    answers = [await proxied("POST", f"{version}{COLLECTION}", json={"id": name}) for name in "abc"]
    created = answers[-1]
    for header in ("Location", "Operation-Location"):
        assert (await proxied.followed(created.headers[header])).json["id"] == "c"
    minimal = await proxied("POST", f"{version}{COLLECTION}", json={"id": "d"}, headers={"Prefer": "return=minimal"})
    assert (await proxied.followed(minimal.headers["OData-EntityId"])).json["id"] == "d"
    monitor = await proxied.followed(created.headers["Operation-Location"])
    assert (await proxied.followed(monitor.json["resourceLocation"])).json["id"] == "c"
    page = await proxied("GET", f"{version}{COLLECTION}?$top=3")
    assert page.json["@odata.context"].startswith(f"{BASE}{version}/$metadata#")
    assert [each["id"] for each in (await proxied.followed(page.json["@odata.nextLink"])).json["value"]] == ["a"]


async def test_links_in_a_batch_lead_back_through_the_proxy(proxied: Proxied) -> None:
    """Plain creates are made together. They and all others have the links of the batch."""
    for name in ("a", "b"):
        await proxied("POST", COLLECTION, json={"id": name})
    creates = [{"id": str(n), "method": "POST", "url": COLLECTION, "body": {"id": f"n{n}"}} for n in range(3)]
    for answer in (
        await proxied("POST", "/v1.0/$batch", json={"requests": creates}),
        await proxied("POST", "/v1.0/$batch", json={"requests": [{**creates[0], "body": {"id": "other"}}]}),
    ):
        for response in answer.json["responses"]:
            assert (await proxied.followed(response["headers"]["location"])).json["id"] == response["body"]["id"]
            assert response["body"]["@odata.context"].startswith(f"{BASE}/v1.0/$metadata#")
    listed = await proxied("POST", "/$batch", json={"requests": [{**GET_ONE, "url": f"{COLLECTION}?$top=1"}]})
    link = listed.json["responses"][0]["body"]["@odata.nextLink"]
    again = await proxied("POST", "/$batch", json={"requests": [{**GET_ONE, "url": link}]})
    assert again.json["responses"][0]["status"] == 200
    assert link.startswith(f"{BASE}/")


async def test_the_requests_of_a_batch_cannot_name_another_prefix(proxied: Proxied) -> None:
    own = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Port": "1", "X-Forwarded-Host": "evil.example"}
    create = {"id": "1", "method": "POST", "url": COLLECTION, "body": {}, "headers": own}
    answer = await proxied("POST", "/$batch", json={"requests": [create]})
    assert answer.json["responses"][0]["headers"]["location"].startswith(f"{BASE}/communications/")


async def test_a_url_outside_the_prefix_is_another_server_s(proxied: Proxied) -> None:
    answer = await proxied("POST", "/$batch", json={"requests": [{**GET_ONE, "url": f"{ORIGIN}{COLLECTION}"}]})
    assert answer.json["responses"][0]["status"] == 400


async def test_the_links_of_jobs_lead_back_through_the_proxy(proxied: Proxied) -> None:
    path = "/ogc/processes/microsoft.graph.commsOperation/execution"
    jobs = [await proxied("POST", path, json={}) for _ in range(2)]
    assert (await proxied.followed(jobs[0].headers["Location"])).json["jobID"] == jobs[0].json["jobID"]
    relations = set()
    for start in ("/ogc/", "/ogc/processes", "/ogc/jobs?limit=1"):
        for link in (await proxied("GET", start)).json["links"]:
            relations.add(link["rel"])
            await proxied.followed(link["href"])
    assert {"next", "self", "service-desc"} <= relations


async def test_the_servers_of_the_description_are_those_behind_the_proxy(proxied: Proxied, api: Api) -> None:
    description = (await proxied("GET", "/openapi.json", token=None)).json
    assert [server["url"] for server in description["servers"]] == [BASE, f"{BASE}/v1.0", f"{BASE}/beta"]
    assert description["paths"]["/healthz"]["servers"] == [{"url": BASE}]
    direct = await api.get("/openapi.json", token=None)
    assert [server["url"] for server in direct.json["servers"]] == ["/", "/v1.0", "/beta"]
    assert b"base.invalid" not in direct.body
    etag = {"If-None-Match": direct.headers["ETag"]}
    assert (await api.get("/openapi.json", token=None, headers=etag)).status == 304
    assert (await proxied("GET", "/openapi.json", token=None, headers=etag)).status == 200


async def test_the_page_of_the_description_loads_its_files_from_below_the_prefix(proxied: Proxied) -> None:
    """References are relative to the page, so that they need no prefix."""
    page = (await proxied("GET", "/docs", token=None)).body.decode()
    references = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert references
    assert not [each for each in references if each.startswith("/") or "://" in each]


async def test_no_response_names_the_address_of_the_api_itself(proxied: Proxied) -> None:
    created = await proxied("POST", COLLECTION, json={"id": "a"})
    for path in (
        COLLECTION,
        f"{COLLECTION}/a",
        "/operations/a",
        "/google/operations/a",
        "/ogc/jobs/a",
        "/openapi.json",
    ):
        answer = await proxied("GET", path)
        assert b"127.0.0.1" not in answer.body
        assert "127.0.0.1" not in json.dumps(dict(answer.headers))
    assert "127.0.0.1" not in json.dumps(dict(created.headers))
