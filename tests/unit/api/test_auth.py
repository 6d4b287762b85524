"""Tokens and the callers that they belong to."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.auth import ANONYMOUS, Authenticator, Callers, open_callers
from tracker.config import Settings
from tracker.errors import ConfigurationError, Invalid, TooManyRequests, Unauthorized
from tracker.service import Caller

HASH = sha256(b"secret").hexdigest()


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKER_TOKENS", "TRACKER_TOKENS_FILE", "TRACKER_AUTH", "TRACKER_HOST"):
        monkeypatch.delenv(name, raising=False)


def callers(tokens: str) -> Callers:
    return open_callers(Settings(tokens=tokens))


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER   secret ", " Bearer secret"])
def test_a_known_token_is_its_callers(header: str) -> None:
    assert callers(f"ann:blue:{HASH.upper()}").identify(header) == Caller("ann", "blue")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "secret",
        "Basic secret",
        "Bearer wrong",
        "Bearer secret x",
        f"Bearer {HASH}",
        "Bearer \udcff",
    ],
)
def test_anything_else_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        callers(f"ann:blue:{HASH}").identify(header)
    assert HASH not in caught.value.message


def test_blank_lines_and_comments_are_skipped() -> None:
    known = callers(f"\n# people\n  \n ann:blue:{HASH}\n\n#end")
    assert known.identify("Bearer secret") == Caller("ann", "blue")


def test_a_file_adds_to_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"bob:red:{sha256(b'other').hexdigest()}\r\n")
    known = open_callers(Settings(tokens=f"ann:blue:{HASH}", tokens_file=path))
    assert known.identify("Bearer secret") == Caller("ann", "blue")
    assert known.identify("Bearer other") == Caller("bob", "red")


@pytest.mark.parametrize(
    "line",
    [
        f"ann:{HASH}",
        f"ann:blue:{HASH}:x",
        f"ann:blue:{HASH[1:]}",
        f":blue:{HASH}",
        f"ann::{HASH}",
        f"a b:blue:{HASH}",
        f"ann blue {HASH}",
    ],
)
def test_a_malformed_line_is_named_by_number_and_never_shown(line: str) -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_TOKENS, line 2 ") as caught:
        callers(f"# first\n{line}")
    assert HASH[1:] not in caught.value.message


def test_a_malformed_line_of_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("what")
    with pytest.raises(ConfigurationError, match=f"{path}, line 1 "):
        open_callers(Settings(tokens_file=path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_TOKENS_FILE"):
        open_callers(Settings(tokens_file=tmp_path / "missing"))


@pytest.mark.parametrize("tokens", ["", "\n# nobody\n"])
def test_without_any_token_the_way_to_make_one_is_named(tokens: str) -> None:
    with pytest.raises(ConfigurationError, match="tracker token"):
        callers(tokens)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_without_authentication_everybody_on_this_machine_is_anonymous(host: str) -> None:
    assert open_callers(Settings(auth="none", host=host)).identify(None) == ANONYMOUS


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_no_authentication_is_refused_where_others_can_reach_it(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        open_callers(Settings(auth="none", host=host))


def test_one_token_cannot_belong_to_two_tenants() -> None:
    digest = "0" * 64
    lines = f"one:a:{digest}\ntwo:b:{digest}"
    with pytest.raises(ConfigurationError, match="line 2 gives two the token of one"):
        open_callers(Settings(tokens=lines))


def request(remote: str = "192.0.2.1", *authorization: str, **headers: str) -> web.Request:
    lines = [("Authorization", value) for value in authorization]
    lines += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return make_mocked_request("GET", "/", headers=CIMultiDict(lines)).clone(remote=remote)


def authenticator(**changes: Any) -> Authenticator:
    settings = Settings(tokens=f"ann:blue:{HASH}", wrong_tokens=2, **changes)
    return Authenticator(settings, open_callers(settings))


def guess(auth: Authenticator, remote: str = "192.0.2.1", **headers: str) -> type[Exception]:
    with pytest.raises((Unauthorized, TooManyRequests)) as caught:
        auth.caller_of(request(remote, "Bearer wrong", **headers))
    return Unauthorized if isinstance(caught.value, Unauthorized) else caught.type


def test_wrong_tokens_of_one_address_are_slowed_down_and_a_known_one_is_never_refused() -> None:
    auth = authenticator()
    assert [guess(auth) for _ in range(2)] == [Unauthorized] * 2
    for _ in range(100):
        assert guess(auth) is TooManyRequests
        assert auth.caller_of(request("192.0.2.1", "Bearer secret")) == Caller("ann", "blue")
    assert guess(auth, "192.0.2.2") is Unauthorized


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    auth = authenticator()
    assert [guess(auth, f"2001:db8::{number}") for number in range(3)][-1] is TooManyRequests
    assert guess(auth, "2001:db8:0:1::") is Unauthorized


def test_a_request_without_a_token_is_no_guess() -> None:
    auth = authenticator()
    for _ in range(100):
        for value in ("", "Basic x", "nonsense"):
            with pytest.raises(Unauthorized):
                auth.caller_of(request("192.0.2.1", value))
        with pytest.raises(Unauthorized):
            auth.caller_of(request())
    assert guess(auth) is Unauthorized


def test_behind_a_proxy_the_client_is_slowed_down_and_the_proxy_is_not() -> None:
    auth = authenticator(trusted_proxies=("10.0.0.1",))
    assert [guess(auth, "10.0.0.1", X_Forwarded_For="192.0.2.7") for _ in range(3)][-1] is TooManyRequests
    assert guess(auth, "10.0.0.1", X_Forwarded_For="192.0.2.8") is Unauthorized
    assert guess(auth, "10.0.0.1", Forwarded="for=192.0.2.7") is TooManyRequests
    assert {guess(auth, "10.0.0.1") for _ in range(50)} == {Unauthorized}


@pytest.mark.parametrize(
    "lines", [("Bearer secret", "Bearer secret"), ("Bearer secret", "Bearer x"), ("", ""), ("Bearer x", "Basic y")]
)
def test_two_authorization_headers_are_malformed_whatever_they_say(lines: tuple[str, str]) -> None:
    for settings in ({}, {"auth": "none", "host": "127.0.0.1"}):
        with pytest.raises(Invalid, match="Authorization"):
            authenticator(**settings).caller_of(request("192.0.2.1", *lines))


def test_replaced_callers_are_counted() -> None:
    known = callers(f"ann:blue:{HASH}\nbob:red:{'1' * 64}")
    assert known.replace({HASH: Caller("ann", "blue"), "1" * 64: Caller("bob", "red")}) == (0, 0)
    assert known.replace({HASH: Caller("ann", "green"), "2" * 64: Caller("eve", "red")}) == (2, 2)
    assert known.identify("Bearer secret") == Caller("ann", "green")
    assert known.replace({}) == (0, 2)
    assert known.find("Bearer secret") is None
