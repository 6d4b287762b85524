from urllib.parse import parse_qsl

import pytest

from tracker.api.filters import Criteria
from tracker.api.odata import (
    Listing,
    next_page,
    parse_listing,
    read_skip_token,
    refuse_options,
    system_options,
    write_skip_token,
)
from tracker.errors import Invalid, NotSupported
from tracker.model import OperationStatus
from tracker.service import Query

CALL = "call-1"


def listing(*pairs: tuple[str, str], **preferences: str) -> Listing:
    return parse_listing(pairs, call_id=CALL, preferences=preferences)


def test_without_options_a_page_has_the_default_size() -> None:
    assert listing() == Listing(query=Query(top=100), empty=False, preference_applied=None)


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
    page = listing(("$top", "0"), ("$count", "true"))
    assert page.empty
    assert page.query.count


@pytest.mark.parametrize(("text", "count"), [("true", True), ("TRUE", True), ("false", False)])
def test_count_is_a_boolean(text: str, count: bool) -> None:
    assert listing(("$count", text)).query.count is count


@pytest.mark.parametrize("text", ["", "1", "yes"])
def test_a_count_that_is_no_boolean_is_malformed(text: str) -> None:
    with pytest.raises(Invalid, match=r"\$count"):
        listing(("$count", text))


@pytest.mark.parametrize("name", ["$orderby", "orderby", "$select", "$skip", "$expand", "$search", "search", "$format"])
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


@pytest.mark.parametrize("criteria", [Criteria(), Criteria(OperationStatus.RUNNING, "é'x")])
@pytest.mark.parametrize("cursor", [0, 1, 2**60])
def test_a_skip_token_comes_back_as_its_cursor(cursor: int, criteria: Criteria) -> None:
    assert read_skip_token(write_skip_token(cursor, CALL, criteria), CALL, criteria) == cursor


def test_a_skip_token_belongs_to_one_call_and_one_filter() -> None:
    token = write_skip_token(17, CALL, Criteria())
    for call, criteria in [("call-2", Criteria()), (CALL, Criteria(client_context="x"))]:
        with pytest.raises(Invalid, match="does not belong"):
            read_skip_token(token, call, criteria)


@pytest.mark.parametrize("token", ["", "x", "====", "é", "MTc", "MTcuMDAwMDAwMDAwMDAwMDAwMA", "LTEuMDA", "A" * 5000])
def test_a_made_up_skip_token_is_refused(token: str) -> None:
    with pytest.raises(Invalid, match="does not belong"):
        listing(("$skiptoken", token))


def test_every_changed_letter_of_a_skip_token_is_noticed() -> None:
    token = write_skip_token(1234567, CALL, Criteria())
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(Invalid):
            read_skip_token(changed, CALL, Criteria())


def test_the_next_page_keeps_every_option_but_the_skip_token() -> None:
    pairs = [("$filter", "clientContext eq 'a&b é'"), ("top", "5"), ("x", "1"), ("$SKIPTOKEN", "old")]
    query = Query(client_context="a&b é", top=5)
    following = dict(parse_qsl(next_page(pairs, call_id=CALL, query=query, cursor=9)))
    token = following.pop("$skiptoken")
    assert following == {"$filter": "clientContext eq 'a&b é'", "top": "5", "x": "1"}
    assert read_skip_token(token, CALL, Criteria(client_context="a&b é")) == 9
