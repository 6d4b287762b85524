"""`$search`, `$orderby` and `$select` as they are written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.api.odata.select import ALL, parse_select
from tracker.errors import Invalid, NotSupported
from tracker.listing.conditions import And, Condition, Found, Not, Or
from tracker.listing.planner import NEWEST_FIRST, SortKey

A, B, C = Found("a"), Found("b"), Found("c")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a", A),
        ("  a ", A),
        ("a b", And((A, B))),
        ("a AND b c", And((A, B, C))),
        ("a OR b c", Or((A, And((B, C))))),
        ("(a OR b) c", And((Or((A, B)), C))),
        ("NOT a b", And((Not(A), B))),
        ("a NOT b", And((A, Not(B)))),
        ("NOT NOT a", Not(Not(A))),
        ("a and not or", And((A, Found("and"), Found("not"), Found("or")))),
        ('"a b"', Found("a b")),
        ('"AND"', Found("AND")),
        (r'"a \"b\" \\ c"', Found('a "b" \\ c')),
        ('a"b"', And((A, B))),
        ("(a)(b)", And((A, B))),
        ("invoice-17, é*'", And((Found("invoice-17,"), Found("é*'")))),
    ],
)
def test_a_search_is_read(text: str, condition: Condition) -> None:
    assert parse_search(text) == condition


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("  ", 3),
        ("AND", 1),
        ("a AND", 6),
        ("a OR OR b", 6),
        ("NOT", 4),
        ("(a", 3),
        ("a)", 2),
        ("()", 2),
        ('a "b', 3),
        ('"a\\"', 1),
        ('""', 1),
    ],
)
def test_a_malformed_search_names_the_position(text: str, position: int) -> None:
    with pytest.raises(Invalid, match=rf"at position {position}\.$") as caught:
        parse_search(text)
    assert caught.value.target == "$search"


def test_a_search_that_nests_deeply_is_refused() -> None:
    for opening in ("(", "NOT "):
        with pytest.raises(Invalid, match="nested deeper"):
            parse_search(opening * 3000 + "a")


def test_a_search_has_a_bounded_number_of_words() -> None:
    assert isinstance(parse_search("a " * 200), And)
    with pytest.raises(Invalid, match="more than 200 words"):
        parse_search("a " * 201)


@given(st.text(max_size=40) | st.text(alphabet='aANDORT ()"\\', max_size=40))
def test_any_search_is_read_or_malformed(text: str) -> None:
    try:
        condition = parse_search(text)
    except Invalid as error:
        assert error.target == "$search"  # noqa: PT017 - both are fine
        return
    assert isinstance(condition, Condition)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("createdDateTime desc", NEWEST_FIRST),
        ("createdDateTime", (SortKey("createdDateTime"),)),
        (
            "status ASC , clientContext Desc",
            (SortKey("status"), SortKey("clientContext", descending=True), SortKey("id")),
        ),
        ("$it/resultInfo/code", (SortKey("resultInfo/code"), SortKey("id"))),
        ("id desc,status", (SortKey("id", descending=True),)),
    ],
)
def test_an_order_is_read(text: str, order: tuple[SortKey, ...]) -> None:
    assert parse_order(text) == order


@pytest.mark.parametrize(
    ("text", "position"),
    [("", 1), ("status,", 8), (",status", 1), ("desc", 1), ("status up", 8), ("status asc desc", 12), ("'x'", 1)],
)
def test_a_malformed_order_names_the_position(text: str, position: int) -> None:
    with pytest.raises(Invalid, match=rf"at position {position}\.$") as caught:
        parse_order(text)
    assert caught.value.target == "$orderby"


@pytest.mark.parametrize("text", ["attempt", "status,percentComplete desc", "length(id)", "participants/$count"])
def test_an_order_by_what_is_not_served_is_named(text: str) -> None:
    with pytest.raises(NotSupported, match="is not supported"):
        parse_order(text)


BODY = {
    "@odata.context": "c",
    "@odata.type": "#t",
    "id": "1",
    "status": "Running",
    "resultInfo": {"@odata.type": "#r", "code": 200, "subcode": 0, "message": "m"},
    "own": {"a": {"b": 1, "c": 2}, "d": 3},
}
CONTROL = {"@odata.context": "c", "@odata.type": "#t"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("id", {**CONTROL, "id": "1"}),
        ("status, id", {**CONTROL, "id": "1", "status": "Running"}),
        ("@odata.type", CONTROL),
        ("absent", CONTROL),
        ("*", BODY),
        ("id,*", BODY),
        ("resultInfo/code", {**CONTROL, "resultInfo": {"@odata.type": "#r", "code": 200}}),
        ("resultInfo/code,resultInfo", {**CONTROL, "resultInfo": BODY["resultInfo"]}),
        ("resultInfo,resultInfo/code", {**CONTROL, "resultInfo": BODY["resultInfo"]}),
        ("own/a/b,own/d", {**CONTROL, "own": {"a": {"b": 1}, "d": 3}}),
        ("status/x", {**CONTROL, "status": "Running"}),
    ],
)
def test_a_selection_leaves_what_was_asked_for(text: str, left: dict[str, Any]) -> None:
    assert parse_select(text).of(BODY) == left


def test_the_context_says_what_is_selected() -> None:
    assert parse_select("id,resultInfo/code").context("u") == "u(id,resultInfo/code)"
    assert parse_select("é").context("u") == "u(%C3%A9)"
    assert parse_select("*,id").context("u") == ALL.context("u") == "u"


@pytest.mark.parametrize(
    ("text", "position"), [("", 1), ("id,", 4), (",id", 1), ("id status", 4), ("5", 1), ("a/", 1), ("id desc", 4)]
)
def test_a_malformed_selection_names_the_position(text: str, position: int) -> None:
    with pytest.raises(Invalid, match=rf"at position {position}\.$") as caught:
        parse_select(text)
    assert caught.value.target == "$select"


def test_options_of_a_selected_member_are_not_served() -> None:
    with pytest.raises(NotSupported, match="options of a member"):
        parse_select("resultInfo($select=code)")
