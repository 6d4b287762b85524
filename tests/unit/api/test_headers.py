"""Request headers as they are parsed."""

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from tracker.api import headers as api_headers
from tracker.api.headers import (
    LONGEST_HEADER,
    accepts,
    client_request_id,
    forwarded,
    is_json,
    joined,
    lines_of,
    odata_version,
    preferences,
    single,
    whole_number,
)
from tracker.errors import Invalid


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=true",
    ],
)
def test_json_with_any_odata_parameter_is_json(value: str) -> None:
    assert is_json(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text/json",
        "application/jsonx",
        "application/json/x",
        "application/json; charset=latin-1",
        "application/xml",
    ],
)
def test_another_type_or_charset_is_not_json(value: str) -> None:
    assert not is_json(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "*/*",
        "application/*",
        "application/json",
        "APPLICATION/JSON;odata.metadata=full",
        "application/json;odata.metadata=minimal;odata.streaming=true;q=0.1",
        "text/html, */*;q=0.1",
        "application/json;q=0, application/json;odata.metadata=none",
        "nonsense",
        ";;,,",
        "application/json;q=broken",
        'text/html;x="a,b;c", application/json',
    ],
)
def test_an_accept_header_that_leaves_json_in_is_served(value: str) -> None:
    assert accepts(value, "application/json")


@pytest.mark.parametrize(
    "value",
    [
        "application/xml",
        "text/html, text/plain;q=0.5",
        "application/json;q=0",
        "application/json;q=0.000, */*",
        "application/*;q=0, */*",
        "*/*;q=0",
    ],
)
def test_an_accept_header_that_excludes_json_is_noticed(value: str) -> None:
    assert not accepts(value, "application/json")


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("", True),
        ("*/*", True),
        ("text/*", True),
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.1", True),
        ("application/json", False),
        ("text/event-stream;q=0, */*", False),
    ],
)
def test_an_accept_header_may_leave_events_out(value: str, taken: bool) -> None:
    assert accepts(value, "text/event-stream") is taken


@pytest.mark.parametrize(
    ("value", "version"),
    [("", "4.0"), ("4.0", "4.0"), ("4.01", "4.01"), ("5.0", "4.01"), ("3.0", "4.0"), ("x", "4.0"), ("nan", "4.0")],
)
def test_the_odata_version_is_the_newest_that_both_sides_know(value: str, version: str) -> None:
    assert odata_version(value) == version


@pytest.mark.parametrize("value", ["x", "a" * 128, "!{~}"])
def test_a_usable_client_request_id_is_echoed(value: str) -> None:
    assert client_request_id(value) == value


@pytest.mark.parametrize("value", [None, "", "a" * 129, "a b", "é", "a\udcff", "a\x00b"])
def test_an_unusable_client_request_id_is_not(value: str | None) -> None:
    assert client_request_id(value) is None


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["wait=10"], {"wait": "10"}),
        (["Wait = 10"], {"wait": "10"}),
        (['wait="10"; x=y'], {"wait": "10"}),
        (
            ["respond-async, wait=5", "odata.maxpagesize=3"],
            {"respond-async": "", "wait": "5", "odata.maxpagesize": "3"},
        ),
        (["wait=1, wait=2", "wait=3"], {"wait": "1"}),
        (['x="a, wait=9", wait=2'], {"x": "a, wait=9", "wait": "2"}),
        (['x="a\\"b"'], {"x": 'a"b'}),
        (["=5, ,;, a b=1, wait=2"], {"wait": "2"}),
        ([], {}),
    ],
)
def test_preferences_are_read_and_malformed_ones_ignored(lines: list[str], found: dict[str, str]) -> None:
    assert preferences(lines) == found


@pytest.mark.parametrize("text", ["0", "60", "007", "999999999"])
def test_a_whole_number_is_ascii_digits(text: str) -> None:
    assert whole_number(text) == int(text)


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.0", "1_0", " 1", "٣", "²", "9999999999"])
def test_anything_else_is_no_whole_number(text: str | None) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize(
    ("lines", "parameters"),
    [
        ((), {}),
        (("proto=https",), {"proto": "https"}),
        (("for=a;proto=http, For=b ; PROTO=https",), {"for": "b", "proto": "https"}),
        (("proto=http", "host=b"), {"host": "b"}),
        (('host="a;b,c=\\"d\\""',), {"host": 'a;b,c="d"'}),
    ],
)
def test_the_last_element_of_forwarded_counts(lines: tuple[str, ...], parameters: dict[str, str]) -> None:
    assert forwarded(lines) == parameters


def test_a_header_that_is_no_list_may_come_once() -> None:
    headers = CIMultiDictProxy(CIMultiDict([("a", "1"), ("b", "x"), ("B", "x")]))
    assert (single(headers, "A"), single(headers, "c")) == ("1", None)
    with pytest.raises(Invalid, match="Send one b header, not 2") as caught:
        single(headers, "b")
    assert caught.value.target == "b"


def test_the_lines_of_a_header_are_bounded_together() -> None:
    def headers(*lines: str) -> CIMultiDictProxy[str]:
        return CIMultiDictProxy(CIMultiDict(("Accept", line) for line in lines))

    assert joined(headers("a/b", "c/d"), "Accept") == "a/b, c/d"
    assert joined(headers("x" * LONGEST_HEADER), "accept") == "x" * LONGEST_HEADER
    assert lines_of(headers(), "Accept") == ()
    with pytest.raises(web.HTTPRequestHeaderFieldsTooLarge, match="Request Header Fields Too Large") as refused:
        joined(headers("x" * LONGEST_HEADER, "y"), "Accept")
    assert refused.value.text == "The lines of the header Accept have more than 8190 characters together."


def test_the_caches_of_headers_keep_no_long_values() -> None:
    before = api_headers._accepts_cached.cache_info().currsize
    for number in range(10):
        assert accepts(f"application/json;x={number}" + "y" * 8000, "application/json")
        assert is_json(f"application/json;x={number}" + "y" * 8000)
    assert api_headers._accepts_cached.cache_info().currsize == before


def test_a_quoted_separator_does_not_split() -> None:
    assert preferences(['a="1,2;3", b', "c;d"]) == {"a": "1,2;3", "b": "", "c": ""}
