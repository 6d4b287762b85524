"""Request bodies: JSON objects, and what is refused as none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.api_client import DOCUMENTED
from tracker.api.request_bodies import DEPTH_LIMIT, parse_object
from tracker.errors import Invalid


@pytest.mark.parametrize("body", [DOCUMENTED, DOCUMENTED.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + DOCUMENTED])
def test_the_documented_body_is_read_with_any_line_ends_and_a_byte_order_mark(body: bytes) -> None:
    assert parse_object(body)["clientContext"] == "Client Context value"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"{", "line 1, column 2"),
        (b'{\n "a": 1,\n}', "line 3, column 1|line 2"),
        (b'{"a": 1} x', "line 1, column 10"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": "\x01"}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": Infinity}', "Infinity is not JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"a": 1e400}', "too large"),
        (b'{"a": -1e400}', "too large"),
        (b'{"a": ' + b"9" * 4301 + b"}", "more than 4300 digits"),
        (b'{"a": 1, "b": 2, "a": 3}', '"a" is there twice'),
        (b'{"a": {"x\\u0079": 1, "xy": 2}}', '"xy" is there twice'),
        (b'{"a": "\\ud800"}', "^a: .*surrogate"),
        (b'{"a": [{"b": ["ok", "\\uDFFF x"]}]}', r"^a\[0\]/b\[1\]: .*surrogate"),
        (b'{"a": "\\ude00\\ud83d"}', "^a: .*surrogate"),
        (b'{"a": {"\\udc00": 1}}', "member name .*surrogate"),
    ],
)
def test_a_body_that_is_no_strict_json_object_is_refused_with_its_cause(body: bytes, cause: str) -> None:
    with pytest.raises(Invalid, match=cause):
        parse_object(body)


def test_what_strict_json_allows_is_kept_letter_by_letter() -> None:
    body = {"a": "\U0001f600", "b": [1, -0.5, True, None], "c": {"d\u2028": "\x7f"}, "n": 10**4200}
    assert parse_object(json.dumps(body).encode()) == body
    assert parse_object(json.dumps(body, ensure_ascii=False).encode()) == body


def test_brackets_in_strings_are_not_depth() -> None:
    text = "[{" * 1000 + '\\"'
    assert parse_object(b'{"a": "' + text.encode() + b'"}') == {"a": "[{" * 1000 + '"'}


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_body_may_nest_as_deep_as_the_limit_and_no_deeper(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert parse_object(nested(DEPTH_LIMIT))
    with pytest.raises(Invalid, match="nests deeper"):
        parse_object(nested(DEPTH_LIMIT + 1))


@pytest.mark.parametrize("bomb", [b'{"a":' * 200_000, b"[" * 1_000_000, b'{"a":' + b'[{"":' * 150_000])
def test_a_body_that_nests_without_end_is_refused(bomb: bytes) -> None:
    with pytest.raises(Invalid, match="nests deeper"):
        parse_object(bomb)


@pytest.mark.parametrize("text", [b'"\\' * 400_000, b'"' + b'\\"' * 400_000, b'"' * 800_001])
def test_hostile_strings_take_linear_time(text: bytes) -> None:
    with pytest.raises(Invalid):
        parse_object(b"[" * (DEPTH_LIMIT + 1) + b"]" * (DEPTH_LIMIT + 1) + text)


@given(st.binary(max_size=80) | st.text(alphabet='{}[]",:\\ud8e1.-+tfn ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = parse_object(body)
    except Invalid:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


texts = st.text(alphabet='[]{}":,\\xé', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans())
def test_what_is_written_as_json_is_read_as_it_was(value: object, ascii_only: bool) -> None:
    body = {"brackets": "[{" * DEPTH_LIMIT, "value": value}
    assert parse_object(json.dumps(body, ensure_ascii=ascii_only).encode()) == body


@given(st.dictionaries(texts, values, min_size=1, max_size=4), values, st.booleans())
def test_a_member_that_is_there_twice_is_refused_wherever_it_is(
    members: dict[str, object], again: object, ascii_only: bool
) -> None:
    once = json.dumps(members, ensure_ascii=ascii_only)
    name = json.dumps(next(iter(members)), ensure_ascii=ascii_only)
    twice = f"{once[:-1]}, {name}: {json.dumps(again, ensure_ascii=ascii_only)}}}"
    assert parse_object(f'{{"in": [[], {once}]}}'.encode())
    with pytest.raises(Invalid, match="is there twice"):
        parse_object(f'{{"in": [[], {twice}]}}'.encode())


def test_a_long_name_around_many_members_is_read_in_linear_time() -> None:
    """Work for each member that grows with the name's length would take hours."""
    name, items = "\N{GRINNING FACE}" + "n" * 2_000_000, 1_000_000
    body = f'{{"paired": "\\ud83d\\ude00", "{name}": [{"1," * items}1]}}'.encode()
    assert len(parse_object(body)[name]) == items + 1
