"""OData's system query options of reads, lists and counts, and the query string of a list's next page.

An option that OData defines and the path does not support raises NotSupported. An unknown option raises Invalid if its
name starts with `$`; otherwise it is a custom option and is ignored. The `$` of an option may be left out, and the case
of its name does not matter (OData 4.01, part 2, 5.1).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlencode

from tracker.api.headers import whole_number
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.api.odata.select import ALL, Selection, parse_select
from tracker.api.odata.skiptoken import longest_cursor, read_skip_token, write_compact_token, write_skip_token
from tracker.errors import Invalid, NotSupported
from tracker.listing.conditions import And, Condition
from tracker.listing.planner import NEWEST_FIRST
from tracker.listing.query import Cursor, ListQuery

SERVED: Final = frozenset({"filter", "search", "orderby", "top", "skip", "skiptoken", "count", "select"})
COUNTABLE: Final = frozenset({"filter", "search", "orderby", "top", "skip", "count"})
"""Options of `/$count`. Only filter and search change the count (OData 4.01, part 1, 11.2.10)."""
KNOWN: Final = SERVED | {"expand", "format", "apply", "compute", "deltatoken", "schemaversion"}
PAGE_SIZE: Final = 100
"""How many operations a page has at most, unless the client asks for another size."""
MAX_PAGE_SIZE: Final = 999
MAX_SKIP: Final = 999_999_999
_PLAIN: Final = "$'()*,/:@"
"""Characters of filters that a query may have without percent-encoding (RFC 3986, 3.4), so that links are short."""
_LONGEST_CHARACTER: Final = 12
"""How many characters of a link one character of an option takes at most: four bytes, percent-encoded."""
_LONGEST_TOKEN: Final = 2600
"""How many characters `$skiptoken=` and a token have at most, which is not a compact one. A test computes it."""

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """The options of a list request."""

    query: ListQuery
    selection: Selection
    preference_applied: str | None
    """The `maxpagesize` preference for the header Preference-Applied; None without this preference."""


def system_options(pairs: Pairs) -> dict[str, str]:
    """The system query options by lower-case name without `$`. Raises Invalid for an unknown or repeated option."""
    options: dict[str, str] = {}
    for name, value in pairs:
        option = name.removeprefix("$").lower()
        if option not in KNOWN:
            if name.startswith("$"):
                raise Invalid(f"There is no query option {name!r}.", target=name)
            continue
        if option in options:
            raise Invalid(f"The query option ${option} is given twice.", target=f"${option}")
        options[option] = value
    return options


def refuse_options(pairs: Pairs, served: frozenset[str] = frozenset()) -> dict[str, str]:
    """The system query options. Raises NotSupported for an option that is not in `served`."""
    options = system_options(pairs)
    for option in options:
        if option == "expand":
            raise NotSupported("$expand: an operation has nothing to expand.", target="$expand")
        if option not in served:
            raise NotSupported(f"The query option ${option} is not supported here.", target=f"${option}")
    return options


def select(pairs: Pairs) -> Selection:
    """The `$select` of a request for one operation. Raises NotSupported for every other option."""
    options = refuse_options(pairs, frozenset({"select"}))
    return parse_select(options["select"]) if "select" in options else ALL


def parse_count(pairs: Pairs) -> Condition | None:
    """The condition of a `/$count` request.

    Raises Invalid or NotSupported, also for an option that does not change the count.
    """
    options = refuse_options(pairs, COUNTABLE)
    return _query(options).where


def parse_listing(pairs: Pairs, *, call_id: str, preferences: Mapping[str, str]) -> Listing:
    """Parse the options of a list request. Raises Invalid or NotSupported."""
    options = refuse_options(pairs, SERVED)
    preferred = _max_page_size(preferences)
    query = _query(options, preferred and preferred[1])
    if "skiptoken" in options:
        query = replace(query, cursor=read_skip_token(options["skiptoken"], call_id, query))
    return Listing(
        query=query,
        selection=parse_select(options["select"]) if "select" in options else ALL,
        preference_applied=preferred and "{}={}".format(*preferred),
    )


def next_page(pairs: Pairs, *, call_id: str, query: ListQuery, cursor: Cursor, room: int) -> str:
    """The query string of the next page: this page's options with a new `$skiptoken`, and without `$skip`.

    It has at most `room` characters. If the options are longer, they are in a compact token.
    """
    kept = [*_kept(pairs), ("$skiptoken", write_skip_token(cursor, call_id, query))]
    text = _query_string(kept)
    return text if len(text) <= room else _query_string([("$skiptoken", write_compact_token(kept))])


def check_next_page(pairs: Pairs, *, call_id: str, query: ListQuery, room: int) -> None:
    """Check that the query string of every next page will have at most `room` characters.

    Raises Invalid otherwise. So a request is refused before its list is read, and not after a page that has no link.
    """
    pairs = _kept(pairs)
    if sum(len(name) + len(value) + 2 for name, value in pairs) * _LONGEST_CHARACTER + _LONGEST_TOKEN <= room:
        return
    if len(_query_string(pairs)) + _LONGEST_TOKEN <= room:
        return
    token = write_skip_token(longest_cursor(query.order), call_id, query)
    compact = write_compact_token([*pairs, ("$skiptoken", token)])
    if len(_query_string([("$skiptoken", compact)])) > room:
        name = max(pairs, key=lambda pair: len(pair[1]), default=("$skiptoken", ""))[0]
        raise Invalid(f"{name[:80]} is too long: no link to a next page could hold it.", target=name[:80])


def _kept(pairs: Pairs) -> list[tuple[str, str]]:
    """The options that the next page has, too, beside its `$skiptoken`."""
    return [(name, value) for name, value in pairs if name.removeprefix("$").lower() not in {"skiptoken", "skip"}]


def _query_string(pairs: Sequence[tuple[str, str]]) -> str:
    return urlencode(pairs, quote_via=quote, safe=_PLAIN)


def _query(options: Mapping[str, str], preferred: int | None = None) -> ListQuery:
    if "skip" in options and "skiptoken" in options:
        raise Invalid("$skip and $skiptoken exclude each other: use @odata.nextLink as it is.", target="$skip")
    skip = _whole_number("skip", options, most=MAX_SKIP)
    return ListQuery(
        where=_where(options.get("filter"), options.get("search")),
        order=parse_order(options["orderby"]) if "orderby" in options else NEWEST_FIRST,
        top=_page_size(_whole_number("top", options, most=MAX_PAGE_SIZE), preferred),
        skip=skip or 0,
        count=_count(options.get("count")),
    )


def _where(filter_option: str | None, search: str | None) -> Condition | None:
    """The condition of `$filter` and `$search` together."""
    terms = [] if filter_option is None else [parse_filter(filter_option)]
    if search is not None:
        terms.append(parse_search(search))
    return And(tuple(terms)) if len(terms) > 1 else terms[0] if terms else None


def _whole_number(option: str, options: Mapping[str, str], *, most: int) -> int | None:
    if option not in options:
        return None
    number = whole_number(options[option])
    if number is None or number > most:
        raise Invalid(f"${option} must be a whole number from 0 to {most}.", target=f"${option}")
    return number


def _count(text: str | None) -> bool:
    match (text or "false").lower():
        case "true":
            return True
        case "false" if text != "":
            return False
        case _:
            raise Invalid("$count must be true or false.", target="$count")


def _page_size(top: int | None, preferred: int | None) -> int:
    """The smaller of `$top` and the preferred size. `$top` is a page size here, as it is in Graph."""
    sizes = [size for size in (top, preferred) if size is not None]
    return min(sizes, default=PAGE_SIZE)


def _max_page_size(preferences: Mapping[str, str]) -> tuple[str, int] | None:
    """The preference's name and its value, at most MAX_PAGE_SIZE. None unless the value is a number above 0."""
    for name in ("odata.maxpagesize", "maxpagesize"):
        size = whole_number(preferences.get(name))
        if size:
            return name, min(size, MAX_PAGE_SIZE)
    return None
