"""Hosts for which the API answers, and changes that other sites ask for."""

from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.links import PublicUrl
from tracker.api.site_guard import SiteGuard
from tracker.config import Settings
from tracker.errors import ConfigurationError, Forbidden, Invalid

OPERATIONS = "/communications/calls/c/operations"
LOOPBACK = [
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "127.0.0.1",
    "127.8.9.1:80",
    "[::1]:8080",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "10.0.0.1", "[::2]"),
    *("2130706433", "127.1", "0x7f.0.0.1", "localhost@evil.example", "localhost/evil", "", "a b", "é", "0.0.0.0"),
]
CROSS_SITE: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "CROSS-SITE"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8080"},
]
OWN_SITE: list[dict[str, str]] = [
    {},
    {"Origin": "http://localhost:8080"},
    {"Origin": "http://LOCALHOST:8080", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "Same-Origin"},
]


def check(
    headers: Mapping[str, str],
    method: str = "GET",
    path: str = OPERATIONS,
    *,
    remote: str = "127.0.0.1",
    **settings: Any,
) -> None:
    """Check a request from an address. The settings name no host, unless the test does."""
    of_test = Settings(**{"public_url": "", "allowed_hosts": (), **settings})
    transport = Mock()
    transport.get_extra_info.side_effect = lambda name, default=None: (remote, 1234) if name == "peername" else default
    request = make_mocked_request(method, path, CIMultiDict(headers), transport=transport)
    SiteGuard(of_test, PublicUrl(of_test)).check(request)


@pytest.mark.parametrize("host", LOOPBACK)
def test_without_tokens_the_hosts_of_this_machine_are_answered(host: str) -> None:
    check({"Host": host}, auth="none")


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE"])
def test_without_tokens_another_host_is_refused(method: str, host: str) -> None:
    with pytest.raises(Invalid) as refused:
        check({"Host": host}, method, auth="none")
    assert refused.value.target == "Host"


def test_without_tokens_a_request_that_names_no_host_is_refused() -> None:
    with pytest.raises(Invalid):
        check({}, auth="none")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("settings", [{"auth": "none"}, {"allowed_hosts": ("a.example",)}])
def test_probes_are_answered_for_any_host(path: str, settings: dict[str, Any]) -> None:
    check({"Host": "10.1.2.3:8080"}, path=path, **settings)


@pytest.mark.parametrize("host", [*LOOPBACK, *FOREIGN])
def test_with_tokens_any_host_is_answered_while_the_settings_name_none(host: str) -> None:
    check({"Host": host, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, "POST")


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("ops.example.org", {"public_url": "https://ops.example.org/tracker"}),
        ("OPS.example.org.:8443", {"public_url": "https://ops.example.org"}),
        ("a.example", {"allowed_hosts": ("A.example",)}),
        ("a.example", {"allowed_hosts": ("a.example",), "public_url": "https://ops.example.org"}),
        ("b.a.example", {"allowed_hosts": ("*.a.example",)}),
        ("c.b.a.example:1", {"allowed_hosts": ("*.a.example",)}),
        ("[2001:db8::1]:80", {"allowed_hosts": ("2001:db8::1",)}),
        ("[2001:db8::1]", {"allowed_hosts": ("[2001:DB8::1]",)}),
        ("evil.example", {"allowed_hosts": ("*",)}),
        ("127.0.0.1:8080", {"public_url": "https://ops.example.org"}),
    ],
)
def test_with_tokens_the_hosts_of_the_settings_are_answered(host: str, settings: dict[str, Any]) -> None:
    check({"Host": host}, **settings)


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("evil.example", {"public_url": "https://ops.example.org/tracker"}),
        ("ops.example.org.evil.example", {"public_url": "https://ops.example.org"}),
        ("b.a.example", {"allowed_hosts": ("a.example",)}),
        ("a.example", {"allowed_hosts": ("*.a.example",)}),
        ("evila.example", {"allowed_hosts": ("*.a.example",)}),
        (".a.example", {"allowed_hosts": ("a.example",)}),
        ("", {"allowed_hosts": ("a.example",)}),
    ],
)
def test_with_tokens_every_other_host_is_refused_once_the_settings_name_one(
    host: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        check({"Host": host}, **settings)


@pytest.mark.parametrize(
    "word", ["https://a.example", "a.example:80", "a/b", "", "*x", "*.", "a b", "**.a", "[::1]:80"]
)
def test_a_host_that_is_none_is_a_wrong_setting(word: str) -> None:
    with pytest.raises(ValueError, match="host name or an address"):
        Settings(allowed_hosts=(word,))


def test_without_tokens_the_settings_cannot_allow_every_host() -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_ALLOWED_HOSTS"):
        check({"Host": "localhost"}, auth="none", allowed_hosts=("*",))


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "PROPFIND"])
def test_without_tokens_another_site_may_change_nothing(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check({"Host": "localhost:8080", **headers}, method, auth="none")


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_without_tokens_another_site_may_link_to_the_api(method: str, headers: dict[str, str]) -> None:
    check({"Host": "localhost:8080", **headers}, method, auth="none")


@pytest.mark.parametrize("headers", OWN_SITE)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_without_tokens_the_api_s_own_pages_may_change_operations(method: str, headers: dict[str, str]) -> None:
    check({"Host": "localhost:8080", **headers}, method, auth="none")


def test_the_default_port_of_an_origin_makes_no_difference() -> None:
    check({"Host": "localhost", "Origin": "https://localhost:443"}, "POST", auth="none")


def test_the_public_url_is_the_api_s_own_site() -> None:
    settings = {"auth": "none", "public_url": "https://ops.example.org/tracker"}
    check({"Host": "127.0.0.1:8080", "Origin": "https://ops.example.org"}, "POST", **settings)


def test_a_target_that_is_a_url_names_a_host_too() -> None:
    check({"Host": "localhost"}, path=f"http://localhost{OPERATIONS}", auth="none")
    with pytest.raises(Invalid):
        check({"Host": "localhost"}, path=f"http://evil.example{OPERATIONS}", auth="none")


def test_the_host_that_a_trusted_proxy_names_stands_in_place_of_the_proxy_s_own() -> None:
    proxied = {"Host": "upstream", "X-Forwarded-Host": "ops.example.org"}
    settings: dict[str, Any] = {"public_url": "https://ops.example.org", "trusted_proxies": ("10.0.0.0/8",)}
    check(proxied, remote="10.0.0.1", **settings)
    with pytest.raises(Invalid):
        check(proxied, remote="192.0.2.1", **settings)
    with pytest.raises(Invalid):
        check({**proxied, "X-Forwarded-Host": "evil.example"}, remote="10.0.0.1", **settings)


def test_without_tokens_a_browser_on_a_trusted_machine_cannot_speak_for_the_proxy() -> None:
    rebound = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    with pytest.raises(Invalid):
        check(rebound, auth="none", trusted_proxies=("127.0.0.1",))
