"""Query options: which are served, their ranges, and skip tokens."""

from base64 import urlsafe_b64encode
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.query_options import (
    Listing,
    next_page,
    parse_count,
    parse_listing,
    refuse_options,
    select,
    system_options,
)
from tracker.api.odata.search import parse_search
from tracker.api.odata.select import ALL
from tracker.api.odata.skiptoken import read_skip_token, write_skip_token
from tracker.errors import Invalid, NotSupported
from tracker.listing.conditions import And
from tracker.listing.planner import NEWEST_FIRST
from tracker.listing.query import Cursor, ListQuery

CALL = "call-1"
FILTER = "clientContext eq 'a&b é'"
FILTERED = ListQuery(where=parse_filter(FILTER))


def listing(*pairs: tuple[str, str], **preferences: str) -> Listing:
    return parse_listing(pairs, call_id=CALL, preferences=preferences)


def test_without_options_a_page_has_the_default_size() -> None:
    assert listing() == Listing(query=ListQuery(top=100), selection=ALL, preference_applied=None)


@pytest.mark.parametrize("name", ["$top", "top", "$TOP", "Top"])
def test_the_dollar_and_the_case_of_an_option_do_not_matter(name: str) -> None:
    assert listing((name, "7")).query.top == 7


@pytest.mark.parametrize("top", ["-1", "1000", "x", "", "1.0", "+1", "1e2", "٣", "9" * 30])
def test_a_top_outside_its_range_is_malformed(top: str) -> None:
    with pytest.raises(Invalid, match=r"\$top must be"):
        listing(("$top", top))


@pytest.mark.parametrize("top", ["1", "999", "0999"])
def test_a_top_within_its_range_is_taken(top: str) -> None:
    assert listing(("$top", top)).query.top == int(top)


def test_a_top_of_zero_is_an_empty_page_that_can_still_count() -> None:
    query = listing(("$top", "0"), ("$count", "true")).query
    assert (query.top, query.count) == (0, True)


@pytest.mark.parametrize("skip", ["-1", "x", "", "1.5", "9" * 10])
def test_a_skip_outside_its_range_is_malformed(skip: str) -> None:
    with pytest.raises(Invalid, match=r"\$skip must be"):
        listing(("$skip", skip))


def test_a_list_reads_every_option() -> None:
    page = listing(
        ("filter", FILTER),
        ("$search", "x"),
        ("$OrderBy", "status desc"),
        ("top", "5"),
        ("skip", "7"),
        ("$select", "id"),
        ("$count", "true"),
    )
    where = And((parse_filter(FILTER), parse_search("x")))
    assert page.query == ListQuery(where, parse_order("status desc"), top=5, skip=7, count=True)
    assert page.selection.members == {"id": None}


def test_a_count_takes_what_does_not_change_it() -> None:
    assert parse_count([("$filter", FILTER), ("$top", "1"), ("$orderby", "id"), ("skip", "3")]) == FILTERED.where
    assert parse_count([("search", "x")]) == parse_search("x")
    assert parse_count([("custom", "1")]) is None
    for name in ("$select", "$skiptoken"):
        with pytest.raises(NotSupported, match=name[1:]):
            parse_count([(name, "id")])
    with pytest.raises(Invalid, match=r"\$top"):
        parse_count([("$top", "x")])


def test_one_operation_takes_a_selection_alone() -> None:
    assert select([("select", "id"), ("custom", "1")]).members == {"id": None}
    assert select([]) is ALL
    with pytest.raises(NotSupported, match="top"):
        select([("$select", "id"), ("$top", "1")])


def test_expand_is_refused_clearly() -> None:
    for refuse in (listing, lambda *pairs: select(pairs), lambda *pairs: parse_count(pairs)):
        with pytest.raises(NotSupported, match=r"\$expand: an operation has nothing to expand"):
            refuse(("expand", "x"))


@pytest.mark.parametrize(("text", "count"), [("true", True), ("TRUE", True), ("false", False)])
def test_count_is_a_boolean(text: str, count: bool) -> None:
    assert listing(("$count", text)).query.count is count


@pytest.mark.parametrize("text", ["", "1", "yes"])
def test_a_count_that_is_no_boolean_is_malformed(text: str) -> None:
    with pytest.raises(Invalid, match=r"\$count"):
        listing(("$count", text))


@pytest.mark.parametrize("name", ["$apply", "apply", "$compute", "$format", "$deltatoken", "schemaversion"])
def test_a_known_option_that_is_not_served_is_named(name: str) -> None:
    with pytest.raises(NotSupported, match=name.removeprefix("$")):
        listing((name, "x"))


@pytest.mark.parametrize("name", ["$fitler", "$", "$$top", "$api-version"])
def test_an_unknown_option_with_a_dollar_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="no query option"):
        listing((name, "x"))


def test_custom_options_are_ignored() -> None:
    assert system_options([("api-version", "1"), ("x", "2"), ("id", "3"), ("", "")]) == {}


@pytest.mark.parametrize("pairs", [[("$top", "1"), ("$top", "1")], [("$top", "1"), ("TOP", "2")]])
def test_an_option_given_twice_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(Invalid, match="twice"):
        system_options(pairs)


def test_a_path_without_options_refuses_even_served_ones() -> None:
    with pytest.raises(NotSupported):
        refuse_options([("$top", "1")])
    assert refuse_options([("custom", "1")]) == {}


@pytest.mark.parametrize(
    ("preferences", "pairs", "size", "applied"),
    [
        ({"odata.maxpagesize": "5"}, [], 5, "odata.maxpagesize=5"),
        ({"maxpagesize": "5"}, [], 5, "maxpagesize=5"),
        ({"maxpagesize": "5"}, [("$top", "3")], 3, "maxpagesize=5"),
        ({"maxpagesize": "5"}, [("$top", "30")], 5, "maxpagesize=5"),
        ({"maxpagesize": "5000"}, [], 999, "maxpagesize=999"),
        ({"maxpagesize": "0"}, [], 100, None),
        ({"maxpagesize": "many"}, [], 100, None),
    ],
)
def test_the_preferred_page_size_limits_a_page(
    preferences: dict[str, str], pairs: list[tuple[str, str]], size: int, applied: str | None
) -> None:
    page = listing(*pairs, **preferences)
    assert (page.query.top, page.preference_applied) == (size, applied)


CURSORS = [
    (ListQuery(), Cursor((0,))),
    (ListQuery(), Cursor((2**52,), skip=3)),
    (FILTERED, Cursor((17,))),
    (ListQuery(order=parse_order("clientContext desc,resultInfo/code")), Cursor(("é'x", None, "id"), moment=5, skip=2)),
    (ListQuery(order=parse_order("status,completedDateTime")), Cursor((2, None, "id"), moment=2**51)),
]


@pytest.mark.parametrize(("query", "cursor"), CURSORS)
def test_a_skip_token_comes_back_as_its_cursor(query: ListQuery, cursor: Cursor) -> None:
    assert read_skip_token(write_skip_token(cursor, CALL, query), CALL, query) == cursor


def test_a_skip_token_belongs_to_one_call_filter_search_and_order() -> None:
    token = write_skip_token(Cursor((17,)), CALL, ListQuery())
    others = [
        ("call-2", ListQuery()),
        (CALL, FILTERED),
        (CALL, ListQuery(where=parse_search("x"))),
        (CALL, ListQuery(order=parse_order("createdDateTime"))),
    ]
    assert read_skip_token(token, CALL, ListQuery(top=3, count=True)) == Cursor((17,))
    for call, query in others:
        with pytest.raises(Invalid, match="does not belong"):
            read_skip_token(token, call, query)


@pytest.mark.parametrize("token", ["", "x", "====", "é", "MTc", "MTcuMDAwMDAwMDAwMDAwMDAwMA", "W10", "A" * 5000])
def test_a_made_up_skip_token_is_refused(token: str) -> None:
    with pytest.raises(Invalid, match="does not belong"):
        listing(("$skiptoken", token))


@pytest.mark.parametrize(
    ("order", "cursor"),
    [
        ("createdDateTime", Cursor(("x",))),
        ("createdDateTime", Cursor((None,))),
        ("createdDateTime", Cursor((True,))),
        ("createdDateTime", Cursor((2**53,))),
        ("createdDateTime", Cursor((1,), skip=-1)),
        ("createdDateTime", Cursor((1, 2))),
        ("createdDateTime", Cursor(())),
        ("id", Cursor((5,))),
        ("status", Cursor(("x", "id"))),
        ("status", Cursor((1, "id"), moment=2**60)),
        ("clientContext", Cursor((5, "id"))),
        ("clientContext", Cursor((0.5, "id"))),
    ],
)
def test_a_well_made_skip_token_that_no_list_has_is_refused(order: str, cursor: Cursor) -> None:
    """Anybody can make one, as its digest is no secret."""
    query = ListQuery(order=parse_order(order))
    with pytest.raises(Invalid, match="does not belong"):
        read_skip_token(write_skip_token(cursor, CALL, query), CALL, query)


@pytest.mark.parametrize("place", ["[" * 5000, r'[["\ud800","id"],5,0]', '[[NaN,"id"],5,0]', "9" * 5000])
def test_a_skip_token_that_holds_anything_is_refused(place: str) -> None:
    token = urlsafe_b64encode(b"0" * 16 + place.encode()).decode().rstrip("=")
    with pytest.raises(Invalid, match="does not belong"):
        listing(("$orderby", "clientContext"), ("$skiptoken", token))


@pytest.mark.parametrize(("query", "cursor"), CURSORS)
def test_every_changed_letter_of_a_skip_token_is_noticed(query: ListQuery, cursor: Cursor) -> None:
    token = write_skip_token(cursor, CALL, query)
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(Invalid):
            read_skip_token(changed, CALL, query)


def test_the_next_page_keeps_every_option_but_the_skip_and_the_skip_token() -> None:
    pairs = [("$filter", FILTER), ("top", "5"), ("x", "1"), ("$SKIPTOKEN", "old"), ("Skip", "3")]
    following = dict(parse_qsl(next_page(pairs, call_id=CALL, query=FILTERED, cursor=Cursor((9,)), room=8000)))
    token = following.pop("$skiptoken")
    assert following == {"$filter": FILTER, "top": "5", "x": "1"}
    assert read_skip_token(token, CALL, FILTERED) == Cursor((9,))


def test_a_next_page_is_hardly_longer_than_a_filter_of_many_quotes() -> None:
    text = "id in (" + ",".join(["'0123456789'"] * 400) + ")"
    query = ListQuery(where=parse_filter(text))
    assert (
        len(next_page([("$filter", text)], call_id=CALL, query=query, cursor=Cursor((9,)), room=8000)) < len(text) + 200
    )


names = st.sampled_from(
    ["$filter", "$orderby", "$search", "$select", "$skip", "$top", "$count", "$skiptoken", "x", "$"]
)


@given(st.lists(st.tuples(names, st.text(max_size=10)), max_size=4))
def test_any_options_are_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        page = listing(*pairs)
    except (Invalid, NotSupported) as error:
        assert str(error.target).startswith("$")  # noqa: PT017 - either error is fine
        return
    assert page.query.order


def test_a_skip_besides_a_skip_token_is_refused() -> None:
    token = write_skip_token(Cursor((9,)), CALL, ListQuery())
    assert listing(("$skiptoken", token)).query == ListQuery(order=NEWEST_FIRST, cursor=Cursor((9,)))
    with pytest.raises(Invalid, match=r"\$skip"):
        listing(("$skiptoken", token), ("$skip", "1"))
