"""Absolute URLs in responses: whose headers count, and which of their values."""

from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.forwarded import LONGEST_PREFIX
from tracker.api.links import PublicUrl
from tracker.config import Settings

HOST = "own.example.org:8080"
PROXY = "10.0.0.1"


def base(headers: Mapping[str, str], *, remote: str = PROXY, **settings: Any) -> str:
    """The base of links in the response to a request from an address."""
    of_test = Settings(**{"public_url": "", "trusted_proxies": ("10.0.0.0/8",), **settings})
    transport = Mock()
    known = {"peername": (remote, 1234), "sockname": ("127.0.0.1", 8080)}
    transport.get_extra_info.side_effect = lambda name, default=None: known.get(name, default)
    request = make_mocked_request("GET", "/", CIMultiDict({"Host": HOST, **headers}), transport=transport)
    return PublicUrl(of_test).base(request)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, f"http://{HOST}"),
        ({"X-Forwarded-Prefix": "/tracker"}, f"http://{HOST}/tracker"),
        ({"X-Forwarded-Prefix": "/tracker/"}, f"http://{HOST}/tracker"),
        ({"X-Forwarded-Prefix": "/"}, f"http://{HOST}"),
        ({"X-Forwarded-Prefix": "/a/b-c/d.e~f_1/v@2"}, f"http://{HOST}/a/b-c/d.e~f_1/v@2"),
        ({"X-Forwarded-Prefix": "/spoofed, /tracker"}, f"http://{HOST}/tracker"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/t"}, f"https://{HOST}/t"),
        ({"Forwarded": "proto=https;host=a.example", "X-Forwarded-Prefix": "/t"}, "https://a.example/t"),
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "8443"}, "http://a.example:8443"),
        (
            {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"},
            "https://a.example",
        ),
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "80"}, "http://a.example"),
        ({"X-Forwarded-Host": "a.example:1", "X-Forwarded-Port": "8443"}, "http://a.example:1"),
        ({"X-Forwarded-Host": "[::1]", "X-Forwarded-Port": "8443"}, "http://[::1]:8443"),
        ({"Host": "b.example", "X-Forwarded-Port": "8443"}, "http://b.example:8443"),
        ({"X-Forwarded-Port": "8443"}, f"http://{HOST}"),
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "port"}, "http://a.example"),
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "123456"}, "http://a.example"),
        ({"Forwarded": "host=a.example", "X-Forwarded-Port": "8443"}, "http://a.example"),
    ],
)
def test_a_trusted_proxy_names_scheme_host_port_and_prefix(headers: dict[str, str], expected: str) -> None:
    assert base(headers) == expected


@pytest.mark.parametrize(
    "prefix",
    [
        *("tracker", "//evil.example", "/a//b", "/..", "/../a", "/a/..", "/a/../b", "/.", "/a/./b", "/a?b", "/a#b"),
        *("/a b", "/a\tb", "/a\x0bb", "/a\x7fb", "/é", "/a%2e%2e", "/%", "/a\\b", "/a'b", '/a"b', "/<script>", "/a;b"),
        *("http://evil.example", "/" + "x" * LONGEST_PREFIX),
    ],
)
def test_a_prefix_that_is_no_plain_path_is_ignored(prefix: str) -> None:
    assert base({"X-Forwarded-Prefix": prefix}) == f"http://{HOST}"


def test_the_headers_of_another_address_are_ignored() -> None:
    headers = {"X-Forwarded-Prefix": "/t", "X-Forwarded-Host": "a.example", "X-Forwarded-Port": "1"}
    assert base(headers, remote="192.0.2.1") == f"http://{HOST}"
    assert base(headers, remote="/run/tracker.sock") == f"http://{HOST}"
    assert base(headers, trusted_proxies=()) == f"http://{HOST}"


def test_a_public_url_names_all_parts_of_links() -> None:
    headers = {"X-Forwarded-Prefix": "/t", "X-Forwarded-Host": "a.example"}
    assert base(headers, public_url="https://ops.example.org/tracker") == "https://ops.example.org/tracker"


def test_a_public_url_that_leaves_no_room_in_links_is_a_wrong_setting() -> None:
    with pytest.raises(ValueError, match="at most 1000 characters"):
        Settings(public_url="https://ops.example.org/" + "x" * 1000)
