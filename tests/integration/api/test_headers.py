"""Authentication, headers and addresses: everything that is checked before an operation is read."""

import socket
from email.utils import parsedate_to_datetime
from uuid import UUID

import pytest

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tracker.api.guard import Route
from tracker.api.routes import ROUTES
from tracker.config import Settings
from tracker.errors import ConfigurationError


def has_the_promised_headers(answer: Answer) -> bool:
    return (
        str(UUID(answer.headers["request-id"])) == answer.headers["request-id"]
        and answer.headers["OData-Version"] == "4.0"
        and parsedate_to_datetime(answer.headers["Date"]).tzinfo is not None
    )


ROUTED = [(route, prefix) for route in ROUTES if not route.dialect for prefix in route.prefixes]


@pytest.mark.parametrize(("route", "prefix"), ROUTED, ids=[f"{r.name}{p}" for r, p in ROUTED])
async def test_every_route_but_the_open_ones_needs_a_token(api: Api, route: Route, prefix: str) -> None:
    path = prefix + route.path.format(call_id="c", operation_id="x", action="mute", file="page.js")
    for token in (None, "wrong"):
        answer = await api.request(route.method, path, token=token)
        assert has_the_promised_headers(answer)
        if route.open:
            assert answer.status == 200
        else:
            assert (answer.status, answer.error["code"]) == (401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(api: Api, scheme: str) -> None:
    answer = await api.get(COLLECTION, token=None, headers={"Authorization": f"{scheme} test-token"})
    assert answer.status == 200


async def test_without_authentication_nobody_needs_a_token(settings: Settings) -> None:
    async with open_api(settings, auth="none") as api:
        assert (await api.post(json={}, token=None)).status == 201


async def test_an_open_api_for_everybody_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        async with open_api(settings, auth="none", host="0.0.0.0"):
            pass


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    ["/", "/nope", "/beta", "/communications/calls/c", f"{COLLECTION}/a/b/c", "/gamma/operations/x", "/beta/healthz"],
)
async def test_an_unknown_path_is_not_found(api: Api, method: str, path: str) -> None:
    answer = await api.request(method, path)
    assert (answer.status, answer.error["code"]) == (404, "notFound")
    assert has_the_promised_headers(answer)


async def test_a_client_request_id_is_echoed(api: Api) -> None:
    answer = await api.get("/operations/x", headers={"client-request-id": "my-name"})
    assert answer.headers["client-request-id"] == answer.error["innerError"]["client-request-id"] == "my-name"
    answer = await api.get("/operations/x", headers={"client-request-id": "n" * 129})
    assert "client-request-id" not in answer.headers


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*", "application/json;odata.metadata=full;q=0.2", "text/html,*/*;q=0.1"]
)
async def test_json_is_sent_to_everybody_who_takes_it(api: Api, accept: str) -> None:
    assert (await api.get(COLLECTION, headers={"Accept": accept})).status == 200


async def test_a_create_that_does_not_accept_json_creates_nothing(api: Api) -> None:
    answer = await api.post(json={}, headers={"Accept": "application/xml"})
    assert (answer.status, answer.error["code"]) == (406, "notAcceptable")
    assert (await api.get(COLLECTION)).json["value"] == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/json;charset=utf-16", "application/x-www-form-urlencoded"]
)
async def test_a_body_that_is_not_json_is_refused(api: Api, kind: str) -> None:
    answer = await api.post(data=b"{}", headers={"Content-Type": kind})
    assert (answer.status, answer.error["code"]) == (415, "unsupportedMediaType")


@pytest.mark.parametrize("kind", ["application/json;odata.metadata=minimal", "APPLICATION/JSON; charset=UTF-8"])
async def test_json_with_parameters_is_json(api: Api, kind: str) -> None:
    assert (await api.post(data=b"{}", headers={"Content-Type": kind})).status == 201


@pytest.mark.parametrize(
    "path", [f"/beta/{COLLECTION}", f"//v1.0//{COLLECTION}", "//communications///calls//call-1//operations"]
)
async def test_duplicate_slashes_are_served_not_redirected(api: Api, path: str) -> None:
    answer = await api.post(f"{path}?a=b//c", json={})
    assert answer.status == 201
    assert "//" not in answer.headers["Location"].removeprefix("http://")


@pytest.mark.parametrize(
    "name",
    [
        "a%2Fb",
        "%7Bx%7D",
        "a%20b",
        "%F0%9F%98%80",
        "100%25",
        "%252F",
        "it's",
        "a+b",
        "..%2F..",
        "x" * 256,
        "%C3%A9" * 256,
    ],
)
async def test_a_call_may_have_any_name(api: Api, name: str) -> None:
    answer = await api.post(f"/communications/calls/{name}/operations", json={})
    assert answer.status == 201
    assert (await api.get(answer.headers["Location"])).status == 200
    assert len((await api.get(f"/communications/calls/{name}/operations")).json["value"]) == 1


@pytest.mark.parametrize("name", ["%00", "a%0Ab", "%7F", "x" * 257])
async def test_a_call_without_a_usable_name_is_refused(api: Api, name: str) -> None:
    for answer in (
        await api.post(f"/communications/calls/{name}/operations", json={}),
        await api.get(f"/communications/calls/{name}/operations"),
    ):
        assert (answer.status, answer.error["target"]) == (400, "callId")


async def test_links_are_made_from_the_public_address(settings: Settings) -> None:
    async with open_api(settings, public_url="https://ops.example.org/tracker") as api:
        answer = await api.post(f"/beta{COLLECTION}", json={}, headers={"Host": "ops.example.org"})
    assert answer.headers["Location"].startswith(f"https://ops.example.org/tracker/beta{COLLECTION}/")
    assert answer.headers["Operation-Location"].startswith("https://ops.example.org/tracker/beta/operations/")


@pytest.mark.parametrize("host", ["example.org", "example.org:8443", "[::1]:80", "xn--e1afmkfd"])
async def test_links_are_made_from_the_host_header(api: Api, host: str) -> None:
    answer = await api.post(json={}, headers={"Host": host})
    assert answer.headers["Location"].startswith(f"http://{host}{COLLECTION}/")


@pytest.mark.parametrize("host", ["", "a b", "a/b", "evil@host", "x:y", "[", "h:999999", "é", "a?b", "<script>"])
async def test_a_garbage_host_header_is_not_repeated(api: Api, host: str) -> None:
    answer = await api.post(json={}, headers={"Host": host})
    assert answer.status == 201
    assert answer.headers["Location"].startswith(f"{api.url}{COLLECTION}/")


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "spoofed, ops.example.org"}


async def test_a_trusted_proxy_says_how_clients_see_the_api(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("10.0.0.0/8", "127.0.0.1")) as api:
        answer = await api.post(json={}, headers=FORWARDED)
        assert answer.headers["Location"].startswith("https://ops.example.org/communications")
        odd = await api.post(json={}, headers={"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b"})
        assert odd.headers["Location"].startswith(api.url)


async def test_headers_of_an_untrusted_proxy_are_ignored(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("10.0.0.0/8", "::1")) as api:
        answer = await api.post(json={}, headers=FORWARDED)
        assert answer.headers["Location"].startswith(api.url)


async def test_a_proxy_that_is_no_address_is_a_configuration_error(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_TRUSTED_PROXIES"):
        async with open_api(settings, trusted_proxies=("proxy.example.org",)):
            pass


async def test_an_expectation_that_cannot_be_met_is_an_error_of_ours_too(api: Api) -> None:
    answer = await api.get(COLLECTION, headers={"Expect": "the-unexpected"})
    assert (answer.status, answer.error["code"]) == (417, "expectationFailed")


async def test_the_description_is_served_to_everybody(api: Api) -> None:
    answer = await api.get("/openapi.json", token=None)
    assert answer.json["openapi"].startswith("3.1")


async def test_an_unexpected_error_is_answered_without_its_text(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr("tracker.service.Operations.find", crash)
    answer = await api.get("/operations/x")
    assert (answer.status, answer.error["code"]) == (500, "internalServerError")
    assert b"internal detail" not in answer.body
    assert has_the_promised_headers(answer)


async def test_an_address_that_cannot_be_listened_on_is_a_configuration_error(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "192.0.2.1"):  # in use, and nobody's here (RFC 5737)
            with pytest.raises(ConfigurationError, match=f"{host} port {port}"):
                async with open_api(settings, host=host, port=port):
                    pass
