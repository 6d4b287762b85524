"""Options of lists that are too long for a link: the compact token, and what does not fit into it."""

import json
import random
import zlib
from base64 import urlsafe_b64encode
from urllib.parse import parse_qsl

import pytest

from tracker.api.odata import query_options
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.query_options import check_next_page, next_page, parse_listing
from tracker.api.odata.skiptoken import (
    longest_cursor,
    with_options_of_token,
    write_compact_token,
    write_skip_token,
)
from tracker.errors import Invalid
from tracker.listing.conditions import MEMBERS
from tracker.listing.query import Cursor, ListQuery

CALL = "call-1"
ROOM = 4000
LONG_ASCII = "id in (" + ",".join(f"'operation-{number}'" for number in range(400)) + ")"
LONG_TEXT = "contains(clientContext,'" + "größer als ein Überblick 漢字 " * 8 + "')"
OTHER_TEXTS = " or ".join(f"clientContext eq '{number} {'漢字かな交じり' * 8}'" for number in range(8))
EVERY_MEMBER = ",".join(sorted(MEMBERS, key=lambda name: name in {"createdDateTime", "id"}))


NEXT = Cursor((9,))


def pages(*pairs: tuple[str, str], cursor: Cursor = NEXT) -> str:
    """The query string of the page after a list with these options, which must be allowed."""
    query = parse_listing(pairs, call_id=CALL, preferences={}).query
    check_next_page(pairs, call_id=CALL, query=query, room=ROOM)
    return next_page(pairs, call_id=CALL, query=query, cursor=cursor, room=ROOM)


@pytest.mark.parametrize("condition", [LONG_ASCII, OTHER_TEXTS])
def test_options_that_are_too_long_for_a_link_are_in_its_token(condition: str) -> None:
    options = [("$filter", condition), ("$top", "5"), ("x", "ä b&c=d")]
    text = pages(*options)
    assert len(text) <= ROOM
    assert [name for name, _ in parse_qsl(text)] == ["$skiptoken"]
    following = with_options_of_token(parse_qsl(text))
    assert following[:-1] == options
    listing = parse_listing(following, call_id=CALL, preferences={})
    assert (listing.query.where, listing.query.top, listing.query.cursor) == (parse_filter(condition), 5, Cursor((9,)))
    again = pages(*following, cursor=Cursor((8,)))
    assert dict(with_options_of_token(parse_qsl(again)))["$filter"] == condition


def test_options_that_fit_stay_readable_in_the_link() -> None:
    assert dict(parse_qsl(pages(("$filter", LONG_TEXT))))["$filter"] == LONG_TEXT


def test_an_option_beside_a_compact_token_counts_too() -> None:
    token = dict(parse_qsl(pages(("$filter", LONG_ASCII))))["$skiptoken"]
    following = with_options_of_token([("$top", "3"), ("SkipToken", token)])
    assert parse_listing(following, call_id=CALL, preferences={}).query.top == 3
    with pytest.raises(Invalid, match="given twice"):
        parse_listing(
            with_options_of_token([("$filter", "id eq 'a'"), ("$skiptoken", token)]), call_id=CALL, preferences={}
        )


def test_a_compact_token_of_another_call_is_refused() -> None:
    token = dict(parse_qsl(pages(("$filter", LONG_ASCII))))["$skiptoken"]
    with pytest.raises(Invalid, match="does not belong"):
        parse_listing(with_options_of_token([("$skiptoken", token)]), call_id="other", preferences={})


def incompressible(size: int, seed: int) -> str:
    print(f"seed: {seed}")
    letters = random.Random(seed)
    return "".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(size))


def test_options_that_fit_into_no_link_are_refused_at_once() -> None:
    with pytest.raises(Invalid, match="no link to a next page") as refused:
        pages(("$top", "5"), ("x", incompressible(3000, random.randrange(2**32))))
    assert refused.value.target == "x"


@pytest.mark.parametrize("size", range(0, 2400, 100))
def test_whatever_is_not_refused_at_once_has_links_to_every_next_page(size: int) -> None:
    options = [("$orderby", EVERY_MEMBER), ("x", incompressible(size, seed=size))]
    query = ListQuery(order=parse_order(EVERY_MEMBER))
    try:
        check_next_page(options, call_id=CALL, query=query, room=ROOM)
    except Invalid:
        return
    for text in ("\x01" * 256, "漢" * 256, incompressible(256, seed=1), "𝔸" * 256, ""):
        longest = longest_cursor(query.order)
        after = tuple(
            text if key.member == "clientContext" else value
            for key, value in zip(query.order, longest.after, strict=True)
        )
        cursor = Cursor(after, longest.moment, longest.skip)
        assert len(next_page(options, call_id=CALL, query=query, cursor=cursor, room=ROOM)) <= ROOM


def test_some_sizes_are_refused_and_some_are_not() -> None:
    """Otherwise the test before could not fail."""
    query = ListQuery(order=parse_order(EVERY_MEMBER))
    check_next_page([("x", incompressible(100, seed=1))], call_id=CALL, query=query, room=ROOM)
    with pytest.raises(Invalid):
        check_next_page([("x", incompressible(2300, seed=1))], call_id=CALL, query=query, room=ROOM)


def test_no_token_of_a_position_is_longer_than_is_assumed() -> None:
    query = ListQuery(order=parse_order(EVERY_MEMBER))
    longest = longest_cursor(query.order)
    for text in ("\x01" * 256, "𝔸" * 256):
        after = tuple(
            text if key.member == "clientContext" else value
            for key, value in zip(query.order, longest.after, strict=True)
        )
        token = write_skip_token(Cursor(after, longest.moment, longest.skip), CALL, query)
        assert len(f"&$skiptoken={token}") <= query_options._LONGEST_TOKEN


def _token(value: object, *, cut: int = 0, more: bytes = b"") -> str:
    data = zlib.compress(json.dumps(value).encode())
    return "~" + urlsafe_b64encode(data[: len(data) - cut] + more).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        *("~", "~~", "~AAAA", "~!", "~é", "~" + "A" * 8000, _token([["$top", "5"]], cut=3), _token([], more=b"x")),
        *map(_token, ({}, 5, None, "ab", ["a"], [["a"]], [["a", "b", "c"]], [["a", 5]], [[1, 2], []])),
        _token([["$filter", "\ud800"]]),
        _token([["x", " " * 10_000_000]]),
        "~" + urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode().rstrip("="),
        "~" + urlsafe_b64encode(zlib.compress(b"\xff")).decode().rstrip("="),
    ],
    ids=lambda token: token[:20],
)
def test_a_compact_token_that_the_server_has_not_made_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        parse_listing(with_options_of_token([("$skiptoken", token)]), call_id=CALL, preferences={})


def test_a_compact_token_in_a_compact_token_is_refused() -> None:
    inner = write_compact_token([("$top", "5")])
    with pytest.raises(Invalid, match="does not belong"):
        parse_listing(
            with_options_of_token([("$skiptoken", write_compact_token([("$skiptoken", inner)]))]),
            call_id=CALL,
            preferences={},
        )


def test_a_request_has_one_compact_token_with_few_options() -> None:
    token = write_compact_token([("$filter", "id eq 'x'")])
    assert with_options_of_token([("$skiptoken", token)]) == [("$filter", "id eq 'x'")]
    for pairs in ([("$skiptoken", token)] * 2, [("$skiptoken", write_compact_token([("a", "")] * 1000))]):
        with pytest.raises(Invalid, match="does not belong to this list"):
            with_options_of_token(pairs)
