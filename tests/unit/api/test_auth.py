"""Tokens and the callers that they belong to."""

from hashlib import sha256
from pathlib import Path

import pytest

from tracker.api.auth import ANONYMOUS, Callers, open_callers
from tracker.config import Settings
from tracker.errors import ConfigurationError, Unauthorized
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
