"""`GET /communications/calls/{callId}/operations`: a call's operations, page by page."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tracker.api.admission import OPERATIONS, links
from tracker.api.headers import preferences
from tracker.api.links import Links
from tracker.api.odata import Listing, next_page, parse_listing
from tracker.api.wire import encode, resource
from tracker.model import Json
from tracker.service import Caller, Page


async def collect(request: web.Request, caller: Caller) -> web.Response:
    """List a call's operations, newest first, page by page."""
    call_id = request.match_info["call_id"]
    pairs = tuple(request.query.items())
    wishes = preferences(request.headers.getall("Prefer", ()))
    listing = parse_listing(pairs, call_id=call_id, preferences=wishes)
    page = await request.app[OPERATIONS].list(caller, call_id, listing.query)
    body = _collection(page, listing, links(request), call_id, pairs)
    applied = listing.preference_applied
    headers = {} if applied is None else {"Preference-Applied": applied}
    return web.Response(body=encode(body), headers=headers, content_type="application/json")


def _collection(page: Page, listing: Listing, link: Links, call_id: str, pairs: Sequence[tuple[str, str]]) -> Json:
    body: dict[str, Any] = {"@odata.context": link.context(call_id)}
    if page.count is not None:
        body["@odata.count"] = page.count
    body["value"] = [] if listing.empty else [resource(record) for record in page.records]
    if page.cursor is not None and not listing.empty:
        query = next_page(pairs, call_id=call_id, query=listing.query, cursor=page.cursor)
        body["@odata.nextLink"] = f"{link.collection(call_id)}?{query}"
    return body
