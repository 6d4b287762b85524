"""System query options: what a list request asks for, and how its next page is named.

A known option that is not served is NotSupported, an unknown one with `$` is Invalid, custom ones are ignored;
a `$` may be left out, and case does not count (OData 4.01, part 2, 5.1).
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlencode

from tracker.api.filters import Criteria, parse_filter
from tracker.api.headers import whole_number
from tracker.errors import Invalid, NotSupported
from tracker.service import Query

SERVED: Final = frozenset({"filter", "top", "count", "skiptoken"})
KNOWN: Final = SERVED | {
    "orderby", "skip", "select", "expand", "search", "format", "apply", "compute", "deltatoken", "schemaversion",
}  # fmt: skip
PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 999

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list request asks for. `empty`: `$top=0`, no operations at all, but the count if asked."""

    query: Query
    empty: bool
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
        if option not in served:
            raise NotSupported(f"The query option ${option} is not supported here.", target=f"${option}")
    return options


def parse_listing(pairs: Pairs, *, call_id: str, preferences: Mapping[str, str]) -> Listing:
    """Read a list request's options. Raises Invalid or NotSupported."""
    options = refuse_options(pairs, SERVED)
    criteria = parse_filter(options["filter"]) if "filter" in options else Criteria()
    preferred = _max_page_size(preferences)
    size = _page_size(_top(options.get("top")), preferred and preferred[1])
    query = Query(
        status=criteria.status,
        client_context=criteria.client_context,
        top=max(size, 1),
        count=_count(options.get("count")),
        cursor=read_skip_token(options["skiptoken"], call_id, criteria) if "skiptoken" in options else None,
    )
    return Listing(query=query, empty=size == 0, preference_applied=preferred and "{}={}".format(*preferred))


def next_page(pairs: Pairs, *, call_id: str, query: Query, cursor: int) -> str:
    """The query string of the next page: the options of this request, with another `$skiptoken`."""
    kept = [(name, value) for name, value in pairs if name.removeprefix("$").lower() != "skiptoken"]
    criteria = Criteria(query.status, query.client_context)
    kept.append(("$skiptoken", write_skip_token(cursor, call_id, criteria)))
    return urlencode(kept, quote_via=quote, safe="$")


def write_skip_token(cursor: int, call_id: str, criteria: Criteria) -> str:
    """Where the next page starts, together with what it is a page of."""
    token = f"{cursor}.{_digest(cursor, call_id, criteria)}"
    return urlsafe_b64encode(token.encode()).decode().rstrip("=")


def read_skip_token(token: str, call_id: str, criteria: Criteria) -> int:
    """The cursor of a `$skiptoken`. Raises Invalid when it was not made here for the same call and filter."""
    try:
        text = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
        cursor = int(text.partition(".")[0])
    except ValueError:
        cursor = -1
    if cursor < 0 or write_skip_token(cursor, call_id, criteria) != token:
        raise Invalid("$skiptoken does not belong to this list: use it as @odata.nextLink has it.", target="$skiptoken")
    return cursor


def _digest(cursor: int, call_id: str, criteria: Criteria) -> str:
    parts = json.dumps([cursor, call_id, criteria.status, criteria.client_context])
    return sha256(parts.encode()).hexdigest()[:16]


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    top = whole_number(text)
    if top is None or top > MAX_PAGE_SIZE:
        raise Invalid(f"$top must be a whole number from 0 to {MAX_PAGE_SIZE}.", target="$top")
    return top


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
