"""System query options: what a list request asks for, and how its next page is named.

A known option that is not served is NotSupported, an unknown one with `$` is Invalid, custom ones are ignored;
a `$` may be left out, and case does not count (OData 4.01, part 2, 5.1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlencode

from tracker.api.headers import whole_number
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.api.odata.select import ALL, Selection, parse_select
from tracker.api.odata.skiptoken import read_skip_token, write_skip_token
from tracker.errors import Invalid, NotSupported
from tracker.listing.conditions import And, Condition
from tracker.listing.pager import Cursor, ListQuery
from tracker.listing.planner import NEWEST_FIRST

SERVED: Final = frozenset({"filter", "search", "orderby", "top", "skip", "skiptoken", "count", "select"})
COUNTABLE: Final = frozenset({"filter", "search", "orderby", "top", "skip", "count"})
"""What `/$count` takes: the last four do not change the count (OData 4.01, part 1, 11.2.10)."""
KNOWN: Final = SERVED | {"expand", "format", "apply", "compute", "deltatoken", "schemaversion"}
PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 999
MAX_SKIP: Final = 999_999_999
_PLAIN: Final = "$'()*,/:@"
"""What may stand in a query as it is (RFC 3986, 3.4) and is frequent in filters: links stay short."""

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list request asks for."""

    query: ListQuery
    selection: Selection
    preference_applied: str | None
    """The `maxpagesize` preference as it was applied, for the header of that name."""


def system_options(pairs: Pairs) -> dict[str, str]:
    """The system query options by lower-case name without `$`. Raises Invalid for an unknown or repeated one."""
    options: dict[str, str] = {}
    for name, value in pairs:
        option = name.removeprefix("$").lower()
        if option not in KNOWN:
            if name.startswith("$"):
                raise Invalid(f"There is no query option {name!r}.", target=name)
            continue
        if option in options:
            raise Invalid(f"The query option ${option} is there twice.", target=f"${option}")
        options[option] = value
    return options


def refuse_options(pairs: Pairs, served: frozenset[str] = frozenset()) -> dict[str, str]:
    """The system query options. Raises NotSupported for one that is not served at this path."""
    options = system_options(pairs)
    for option in options:
        if option == "expand":
            raise NotSupported("$expand: an operation has nothing to expand.", target="$expand")
        if option not in served:
            raise NotSupported(f"The query option ${option} is not supported here.", target=f"${option}")
    return options


def select(pairs: Pairs) -> Selection:
    """What a request for one operation asks for, which may be `$select` alone. Raises Invalid or NotSupported."""
    options = refuse_options(pairs, frozenset({"select"}))
    return parse_select(options["select"]) if "select" in options else ALL


def parse_count(pairs: Pairs) -> Condition | None:
    """What `/$count` is to count. Raises Invalid or NotSupported, also for what does not change the count."""
    options = refuse_options(pairs, COUNTABLE)
    return _query(options).where


def parse_listing(pairs: Pairs, *, call_id: str, preferences: Mapping[str, str]) -> Listing:
    """Read a list request's options. Raises Invalid or NotSupported."""
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


def next_page(pairs: Pairs, *, call_id: str, query: ListQuery, cursor: Cursor) -> str:
    """The query string of the next page: the options of this request, with another `$skiptoken` and no `$skip`."""
    kept = [(name, value) for name, value in pairs if name.removeprefix("$").lower() not in {"skiptoken", "skip"}]
    kept.append(("$skiptoken", write_skip_token(cursor, call_id, query)))
    return urlencode(kept, quote_via=quote, safe=_PLAIN)


def _query(options: Mapping[str, str], preferred: int | None = None) -> ListQuery:
    if "skip" in options and "skiptoken" in options:
        raise Invalid("$skip has had its effect already: use @odata.nextLink as it is.", target="$skip")
    skip = _whole("skip", options, most=MAX_SKIP)
    return ListQuery(
        where=_where(options.get("filter"), options.get("search")),
        order=parse_order(options["orderby"]) if "orderby" in options else NEWEST_FIRST,
        top=_page_size(_whole("top", options, most=MAX_PAGE_SIZE), preferred),
        skip=skip or 0,
        count=_count(options.get("count")),
    )


@lru_cache(128)
def _where(filtered: str | None, search: str | None) -> Condition | None:
    """What `$filter` and `$search` together ask of an operation."""
    terms = [] if filtered is None else [parse_filter(filtered)]
    if search is not None:
        terms.append(parse_search(search))
    return And(tuple(terms)) if len(terms) > 1 else terms[0] if terms else None


def _whole(option: str, options: Mapping[str, str], *, most: int) -> int | None:
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
    """The smaller of what was asked for; `$top` is a page size here, as it is in Graph."""
    asked = [size for size in (top, preferred) if size is not None]
    return min(asked, default=PAGE_SIZE)


def _max_page_size(preferences: Mapping[str, str]) -> tuple[str, int] | None:
    """The preference's spelling and value, at most what a page may hold; None when it is not a number above 0."""
    for spelling in ("odata.maxpagesize", "maxpagesize"):
        size = whole_number(preferences.get(spelling))
        if size:
            return spelling, min(size, MAX_PAGE_SIZE)
    return None
