"""Methods, versions and preconditions, over real HTTP and a real server."""

import re

import pytest

from tests.support.api_client import COLLECTION, Api, open_api
from tests.support.records import claim
from tracker.api.routes import PATTERNS, ROUTES
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.store.store import Store

PATHS = [
    (prefix + path, route.open)
    for path, route in {route.path: route for route in ROUTES if not route.dialect}.items()
    for prefix in route.prefixes
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY")


def address_of(path: str) -> str:
    return re.sub(r"\{\w+\}", "x", path.replace("{action}", "mute"))


def methods_at(address: str, *, exactly: str | None = None) -> set[str]:
    """What can be asked of an address; `exactly` leaves out routes whose patterns happen to match it, too."""
    methods = {"OPTIONS"}
    for route, prefix in ((each, prefix) for each in ROUTES for prefix in each.prefixes):
        path = prefix + route.path
        parts = re.split(r"\{(\w+)\}", path)
        pattern = "".join(PATTERNS.get(part, "[^/]+") if at % 2 else re.escape(part) for at, part in enumerate(parts))
        if re.fullmatch(pattern, address) and exactly in {None, path}:
            methods |= {route.method, "HEAD"} if route.method == "GET" else {route.method}
    return methods


@pytest.mark.parametrize(("path", "open_"), PATHS, ids=[path for path, _ in PATHS])
async def test_every_path_tells_its_methods(api: Api, path: str, open_: bool) -> None:
    address = address_of(path)
    answer = await api.request("OPTIONS", address, token=None if open_ else "test-token")
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer.headers["Allow"].split(",")) == methods_at(address, exactly=path)
    assert answer.headers["request-id"]
    if not open_:
        assert (await api.request("OPTIONS", address, token=None)).status == 401


@pytest.mark.parametrize(("path", "open_"), PATHS, ids=[path for path, _ in PATHS])
async def test_every_other_method_is_not_allowed(api: Api, path: str, open_: bool) -> None:
    address = address_of(path)
    for method in set(METHODS) - methods_at(address):
        answer = await api.request(method, address, token=None if open_ else "test-token")
        assert answer.status == 405, method
        assert set(answer.headers["Allow"].split(",")) == methods_at(address)
        if method != "HEAD":
            assert answer.error["code"] == "methodNotAllowed"


async def test_head_has_the_headers_of_get_and_no_body(api: Api) -> None:
    operation = await api.created(clientContext="x")
    path = f"{COLLECTION}/{operation['id']}"
    for address in (path, COLLECTION, f"/operations/{operation['id']}", "/healthz", f"{COLLECTION}/missing"):
        get, head = await api.get(address), await api.request("HEAD", address)
        assert (head.status, head.body) == (get.status, b"")
        differ = {"request-id", "Date"} | ({"Content-Length"} if get.status == 404 else set())
        assert {name: text for name, text in head.headers.items() if name not in differ} == {
            name: text for name, text in get.headers.items() if name not in differ
        }
    etag = (await api.get(path)).headers["ETag"]
    assert (await api.request("HEAD", path, headers={"If-None-Match": etag})).status == 304


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"OData-MaxVersion": "4.0"}, "4.0"),
        ({"OData-MaxVersion": "4.01"}, "4.01"),
        ({"OData-MaxVersion": "5.0"}, "4.01"),
        ({"OData-Version": "4.0"}, "4.0"),
        ({"OData-Version": "4.01", "OData-MaxVersion": "4.01"}, "4.01"),
        ({"OData-Version": "4.01", "OData-MaxVersion": "4.0"}, "4.0"),
    ],
    ids=str,
)
async def test_the_version_of_the_answer_is_the_newest_that_both_know(
    api: Api, headers: dict[str, str], version: str
) -> None:
    for answer in (await api.get(COLLECTION, headers=headers), await api.post(json={}, headers=headers)):
        assert answer.status in {200, 201}
        assert answer.headers["OData-Version"] == version


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OData-Version", "3.0"),
        ("OData-Version", "4.1"),
        ("OData-Version", "4"),
        ("OData-Version", "x"),
        ("OData-Version", ""),
        ("OData-MaxVersion", "3.0"),
        ("OData-MaxVersion", "4"),
        ("OData-MaxVersion", "nan"),
        ("OData-MaxVersion", "inf"),
        ("OData-MaxVersion", "4.0;x"),
        ("OData-MaxVersion", ""),
    ],
)
async def test_a_version_that_cannot_be_served_is_refused(api: Api, name: str, value: str) -> None:
    for answer in (await api.get(COLLECTION, headers={name: value}), await api.post(json={}, headers={name: value})):
        assert (answer.status, answer.error["code"], answer.error["target"]) == (400, "badRequest", name)
        assert answer.headers["OData-Version"] == "4.0"


async def test_if_match_guards_a_read(api: Api) -> None:
    first = await api.post(json={})
    path, etag = first.headers["Location"], first.headers["ETag"]
    for sent in (etag, etag.removeprefix("W/"), "*"):
        assert (await api.get(path, headers={"If-Match": sent})).status == 200
    answer = await api.get(path, headers={"If-Match": 'W/"999"', "If-None-Match": etag})
    assert (answer.status, answer.error["target"]) == (412, "If-Match")


async def test_preconditions_guard_a_cancel(api: Api, store: Store) -> None:
    first = await api.post(json={})
    path, etag = first.headers["Location"], first.headers["ETag"]
    for headers in ({"If-Match": 'W/"999"'}, {"If-None-Match": etag}, {"If-Match": etag, "If-None-Match": "*"}):
        assert (await api.post(f"{path}/cancel", headers=headers)).status == 412
    record = await claim(store, await store.find("test", first.json["id"]))
    assert (await api.post(f"{path}/cancel", headers={"If-Match": etag})).status == 412, "it has started since"
    marked = await api.post(f"{path}/cancel", headers={"If-Match": record.etag})
    assert (marked.status, marked.json["status"]) == (202, "Running")
    again = await api.post(f"{path}/cancel", headers={"If-Match": marked.headers["ETag"]})
    assert (again.status, again.json) == (202, marked.json)
    [seen] = await store.read([record.key])
    await store.apply(lifecycle.succeed(seen, DONE, {}))
    assert (await api.post(f"{path}/cancel", headers={"If-Match": record.etag})).status == 412
    assert (await api.post(f"{path}/cancel")).status == 200


async def test_preconditions_guard_a_delete(api: Api) -> None:
    first = await api.post(json={})
    path, etag = first.headers["Location"], first.headers["ETag"]
    assert (await api.delete(path, headers={"If-None-Match": etag})).status == 412
    await api.request("PATCH", path, json={"note": 1})
    assert (await api.delete(path, headers={"If-Match": etag})).status == 412
    assert (await api.delete(path, headers={"If-None-Match": etag, "If-Match": "*"})).status == 204


async def test_a_change_without_if_match_is_refused_where_the_setting_asks_for_it(settings: Settings) -> None:
    async with open_api(settings, require_if_match=True) as api:
        first = await api.post(json={})
        path, etag = first.headers["Location"], first.headers["ETag"]
        for answer in (await api.delete(path), await api.request("PATCH", path, json={"a": 1})):
            assert (answer.status, answer.error["code"]) == (428, "preconditionRequired")
        changed = await api.request("PATCH", path, json={"a": 1}, headers={"If-Match": etag})
        assert (changed.status, changed.json["a"]) == (200, 1)
        assert (await api.post(f"{path}/cancel")).status == 202
        assert (await api.delete(path, headers={"If-Match": "*"})).status == 204


async def test_an_accept_header_of_two_lines_is_one_list(api: Api) -> None:
    request = (
        f"GET {COLLECTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n"
        "Accept: text/html\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    )
    assert (await api.raw(request.encode())).startswith(b"HTTP/1.1 200")
