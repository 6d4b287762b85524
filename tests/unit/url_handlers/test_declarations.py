"""Declaring types whose handler is a URL, and their signatures."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

import tracker
from tracker import Operation, handles_url
from tracker.config import Settings
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import TypeRegistry
from tracker.errors import ConfigurationError
from tracker.url_handlers import signing
from tracker.url_handlers.request import declare_url_types
from tracker.url_handlers.response import BadAnswer

URL = "https://contoso.example/transcode"
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


class Transcode(Operation, type="#urls.transcode"):
    preset: str = "480p"


def test_a_signature_is_the_one_that_the_reference_implementation_makes() -> None:
    """The example in the tests of Standard Webhooks' own libraries."""
    key = signing.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", owner="test")
    told = signing.sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("length", [24, 25, 26, 64])
def test_a_secrets_padding_may_be_missing(length: int) -> None:
    padded = f"whsec_{base64.b64encode(bytes(length)).decode()}"
    assert signing.key_of(padded, owner="test") == signing.key_of(padded.rstrip("="), owner="test") == bytes(length)


WRONG_SECRETS = [
    *("", "whsec_", SECRET.removeprefix("whsec_"), SECRET.upper(), "whsec_" + "*" * 44, "whsec_" + "ä" * 44),
    *(f"whsec_{base64.b64encode(bytes(length)).decode()}" for length in (23, 65)),
    f"{SECRET[:20]} {SECRET[20:]}",
]


@pytest.mark.parametrize("secret", WRONG_SECRETS)
def test_a_secret_that_cannot_be_used_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"#urls\.transcode: a secret is whsec_ and the Base64") as refused:
        handles_url(Transcode, URL, secret=[SECRET, secret])
    assert len(secret) < 10 or secret not in refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        *("", "contoso.example/x", "/x", "//contoso.example/x", "ftp://contoso.example/", "file:///etc/hostname"),
        *("http://", "http:///x", "http://:80/", "https://contoso.example:99999/", "http://[::1/", "unix:/run/x"),
    ],
)
def test_what_cannot_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"#urls\.transcode: the URL "):
        handles_url(Transcode, url)


@pytest.mark.parametrize("url", ["http://user:hunter2@contoso.example/", "http://hunter2@contoso.example/"])
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="may not hold credentials") as refused:
        handles_url(Transcode, url)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "5 s"])
def test_a_timeout_has_to_be_a_time(timeout: Any) -> None:
    with pytest.raises(ConfigurationError):
        handles_url(Transcode, URL, timeout=timeout)


@pytest.mark.parametrize("member", ["call_id", "idempotency_key"])
def test_a_type_cannot_declare_what_every_request_has(member: str) -> None:
    members: Any = {member: (str, "")}
    taken = create_model("Taken", __base__=Operation, __cls_kwargs__={"type": "#urls.taken"}, **members)
    with pytest.raises(ConfigurationError, match="is a member of every request already"):
        handles_url(taken, URL)


def test_a_url_type_is_an_ordinary_type_with_a_coroutine_for_its_handler(type_registry: TypeRegistry) -> None:
    handles_url(Transcode, URL, run_within="90s", attempts=7, never_retry=[BadAnswer])
    entry = type_registry["#urls.transcode"]
    assert entry.model is Transcode
    assert entry.is_coroutine
    policy = entry.policy(retention=1, tombstone=1)
    assert (policy.run_within, policy.attempts) == (90, 7)
    assert entry.never_retry == (BadAnswer,)


def test_a_policy_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="attempts"):
        handles_url(Transcode, URL, attempts=0)


def test_handles_url_is_public() -> None:
    assert tracker.handles_url is handles_url


@pytest.mark.parametrize(
    "text",
    [
        'class T(Operation, type="#wrong.t"): ...\nhandles_url(T, "http://h/")\n',
        'from tests.unit.url_handlers.test_declarations import Transcode\nhandles_url(Transcode, "http://h/")\n',
    ],
)
def test_a_module_with_nothing_but_url_types_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "only_urls.py").write_text(f"from tracker import Operation, handles_url\n{text}")
    monkeypatch.syspath_prepend(str(tmp_path))
    load_types(["only_urls"])
    sys.modules.pop("only_urls")


def test_the_error_names_the_line_of_a_wrong_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'from tracker import Operation, handles_url\nclass T(Operation, type="#wrong.t"): ...\nhandles_url(T, "x")\n'
    (tmp_path / "wrong_url.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"wrong_url: #wrong\.t: the URL .*wrong_url\.py, line 3"):
        load_types(["wrong_url"])


def configured(monkeypatch: pytest.MonkeyPatch, handlers: str, secrets: str = "") -> Settings:
    monkeypatch.setenv("TRACKER_URL_HANDLERS", handlers)
    monkeypatch.setenv("TRACKER_URL_SECRETS", secrets)
    return Settings()


def test_settings_declare_types_that_take_anything_and_have_a_result(
    monkeypatch: pytest.MonkeyPatch, type_registry: TypeRegistry
) -> None:
    words = "#contoso.first=http://127.0.0.1:9/first?a=b,\n  #contoso.second = https://contoso.example\n"
    for _ in range(2):
        declare_url_types(configured(monkeypatch, words, f"{SECRET}, #contoso.first={SECRET}"))
    first = type_registry["#contoso.first"]
    assert "#contoso.second" in type_registry
    assert first.is_coroutine
    assert first.validate({"any": {"thing": 1}}) == {"any": {"thing": 1}}
    assert first.model.result_members() == {"result"}
    assert first.model.model_json_schema()["properties"]["result"]["readOnly"] is True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("#contoso.first", "#contoso.first: the URL must start with"),
        ("http://127.0.0.1/", "'http://127.0.0.1/' is not of the form '#namespace.name'"),
        ("contoso.first=http://127.0.0.1/", "'contoso.first' is not of the form"),
        ("#contoso.first=ftp://x/", "#contoso.first: the URL must start with"),
        ("#contoso.first=http://u:p@x/", "#contoso.first: the URL may not hold credentials"),
        ("#contoso.first=http://x/,#Contoso.First=http://y/", "#Contoso.First is given twice"),
        ("#urls.transcode=http://x/", "two classes claim #urls.transcode"),
    ],
)
def test_a_word_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, words: str, told: str) -> None:
    handles_url(Transcode, URL)
    with pytest.raises(ConfigurationError, match="TRACKER_URL_HANDLERS: ") as refused:
        declare_url_types(configured(monkeypatch, words))
    assert told in refused.value.message


@pytest.mark.parametrize("word", ["secret", "whsec_secret", "#contoso.first=secret", f"={SECRET[:-4]}*"])
def test_a_configured_secret_is_judged_at_the_start(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    with pytest.raises(ConfigurationError, match="TRACKER_URL_SECRETS: a secret is whsec_"):
        declare_url_types(configured(monkeypatch, "", f"{SECRET},{word}"))


def test_secrets_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in repr(configured(monkeypatch, "", SECRET))
