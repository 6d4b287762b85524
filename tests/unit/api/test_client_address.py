"""The clients' addresses, with and without proxies."""

from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.client_address import ClientAddresses, key_of, parse_address
from tracker.config import Settings
from tracker.errors import ConfigurationError

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")


def request(remote: str | None, *headers: tuple[str, str]) -> web.BaseRequest:
    return make_mocked_request("GET", "/", headers=CIMultiDict(headers)).clone(remote=remote or "")


def client(remote: str | None, *headers: tuple[str, str], proxies: tuple[str, ...] = PROXIES) -> str | None:
    found = ClientAddresses(Settings(trusted_proxies=proxies)).of(request(remote, *headers))
    return None if found is None else str(found)


def test_without_a_proxy_the_peer_is_the_client() -> None:
    assert client("192.0.2.1") == "192.0.2.1"
    assert client("2001:db8::1") == "2001:db8::1"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_headers_of_an_untrusted_peer_are_ignored(name: str) -> None:
    headers = (name, "198.51.100.7" if name != "Forwarded" else "for=198.51.100.7")
    assert client("192.0.2.1", headers) == "192.0.2.1"
    assert client("10.0.0.1", headers, proxies=()) == "10.0.0.1"


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-For", "198.51.100.7")],
        [("X-Forwarded-For", "203.0.113.66, 198.51.100.7")],
        [("X-Forwarded-For", "10.9.9.9,198.51.100.7 , 10.0.0.2")],
        [("X-Forwarded-For", "203.0.113.66"), ("X-Forwarded-For", "198.51.100.7")],
        [("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "10.0.0.2")],
        [("X-Forwarded-For", "198.51.100.7, ,, ")],
        [("X-Forwarded-For", "198.51.100.7:40312")],
        [("X-Forwarded-For", "::ffff:198.51.100.7")],
        [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=203.0.113.66")],
        [("Forwarded", "for=198.51.100.7")],
        [("Forwarded", 'For="198.51.100.7:40312"')],
        [("Forwarded", "proto=https; for=198.51.100.7 ;host=a")],
        [("Forwarded", "for=203.0.113.66;proto=http, for=198.51.100.7;by=10.0.0.3, for=10.0.0.2")],
        [("Forwarded", 'for="[::ffff:198.51.100.7]:80"')],
        [("Forwarded", 'for="203.0.113.66, for=198.51.100.7')],
        [("Forwarded", 'for="203.0.113.66'), ("Forwarded", "for=198.51.100.7")],
    ],
)
def test_the_last_address_that_is_no_trusted_proxys_is_the_client(headers: list[tuple[str, str]]) -> None:
    assert client("10.0.0.1", *headers) == "198.51.100.7"


@pytest.mark.parametrize(
    "value",
    ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443", "2001:DB8:0::7%eth0", "2001:db8::7, 2001:db8:ffff::1"],
)
def test_a_client_may_have_an_address_of_ipv6(value: str) -> None:
    assert client("2001:db8:ffff::2", ("X-Forwarded-For", value)) == "2001:db8::7"
    if "," not in value:
        assert client("2001:db8:ffff::2", ("Forwarded", f'for="{value}"')) == "2001:db8::7"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Forwarded-For", "")],
        [("X-Forwarded-For", "10.0.0.9, 10.0.0.2")],
        [("X-Forwarded-For", "198.51.100.7, unknown")],
        [("X-Forwarded-For", "198.51.100.7, 1.2.3.4.5")],
        [("Forwarded", "for=198.51.100.7, for=unknown")],
        [("Forwarded", 'for=198.51.100.7, for="_hidden"')],
        [("Forwarded", "for=198.51.100.7, proto=https")],
        [("Forwarded", "for=198.51.100.7, xfor=203.0.113.66")],
        [("Forwarded", "for=198.51.100.7"), ("X-Forwarded-Proto", "https")],
        [("Forwarded", "for=198.51.100.7"), ("X-Forwarded-Host", "ops.example.org")],
    ],
)
def test_a_client_that_the_proxy_does_not_name_by_an_address_is_not_known(headers: list[tuple[str, str]]) -> None:
    assert client("10.0.0.1", *headers) is None


@pytest.mark.parametrize("remote", ["::ffff:10.0.0.1", "2001:db8:ffff::2%eth0"])
def test_a_trusted_proxy_is_recognized_in_the_notation_of_a_socket_for_both_families(remote: str) -> None:
    assert client(remote, ("X-Forwarded-For", "198.51.100.7")) == "198.51.100.7"


@pytest.mark.parametrize("remote", [None, "", "/run/tracker.sock"])
def test_a_peer_without_an_address_has_no_address(remote: str | None) -> None:
    assert client(remote) is None
    assert client(remote, ("X-Forwarded-For", "198.51.100.7")) is None


def test_bytes_that_are_no_request_come_from_their_peer() -> None:
    """aiohttp gives them a request whose headers are a plain dict."""
    for remote, address in (("10.0.0.1", None), ("192.0.2.1", "192.0.2.1")):
        broken = request(remote)
        broken._headers = {}  # type: ignore[assignment]  # see above
        found = ClientAddresses(Settings(trusted_proxies=PROXIES)).of(broken)
        assert found == (None if address is None else ip_address(address))


def test_a_long_list_is_read_from_its_end_only() -> None:
    sent = "a," * 4000
    assert client("10.0.0.1", ("X-Forwarded-For", f"{sent}198.51.100.7")) == "198.51.100.7"
    assert client("10.0.0.1", ("Forwarded", f"{sent}for=198.51.100.7")) == "198.51.100.7"


def test_a_connection_of_a_trusted_proxy_has_no_clients_address() -> None:
    addresses = ClientAddresses(Settings(trusted_proxies=PROXIES))
    assert addresses.of_peer("10.0.0.1") is None
    assert addresses.of_peer(None) is None
    assert addresses.of_peer("::ffff:192.0.2.1") == ip_address("192.0.2.1")


def test_a_word_that_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_TRUSTED_PROXIES"):
        ClientAddresses(Settings(trusted_proxies=("proxy.example.org",)))


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
    ],
)
def test_addresses_of_one_ipv6_network_have_one_key(address: str, key: str) -> None:
    assert key_of(ip_address(address)) == key


@pytest.mark.parametrize(
    "text", ["", "-", "unknown", "1.2.3", "[::1", "::1]", "1.2.3.4:", "localhost", "\udcff", "%", "1.2.3.4 x"]
)
def test_text_that_is_no_address_has_none(text: str) -> None:
    assert parse_address(text) is None
