"""Lists and counts of a call's operations: `GET /communications/calls/{callId}/operations` and its `/$count`."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tracker.api.answers import JsonItems, PartOfRoom, Room, room_for, send
from tracker.api.guard import OPERATIONS, links
from tracker.api.headers import lines_of, preferences
from tracker.api.lengths import LONGEST_LINK
from tracker.api.links import Links
from tracker.api.odata.query_options import Listing, check_next_page, next_page, parse_count, parse_listing
from tracker.api.odata.skiptoken import with_options_of_token
from tracker.api.serializers import resource
from tracker.json_codec import encode
from tracker.service import Caller


async def read(request: web.Request, caller: Caller) -> web.StreamResponse:
    """List a call's operations in pages. Query options filter, search and sort the list."""
    call_id = request.match_info["call_id"]
    pairs = with_options_of_token(tuple(request.query.items()))
    preferred = preferences(lines_of(request.headers, "Prefer"))
    listing = parse_listing(pairs, call_id=call_id, preferences=preferred)
    check_next_page(pairs, call_id=call_id, query=listing.query, room=_longest_query(links(request), call_id))
    applied = listing.preference_applied
    headers = {} if applied is None else {"Preference-Applied": applied}
    async with room_for(request, caller.tenant) as room:
        body = await _page(request, caller, listing, pairs, room)
        return await send(request, web.Response(body=body, headers=headers, content_type="application/json"), room)


async def count(request: web.Request, caller: Caller) -> web.Response:
    """Count a call's operations. The response is the number as plain text (OData 4.01, part 1, 11.2.10)."""
    where = parse_count(request.query.items())
    number = await request.app[OPERATIONS].count(caller, request.match_info["call_id"], where)
    return web.Response(text=str(number))


async def _page(
    request: web.Request, caller: Caller, listing: Listing, pairs: Sequence[tuple[str, str]], room: Room | PartOfRoom
) -> bytes:
    call_id, selection, link = request.match_info["call_id"], listing.selection, links(request)
    value = JsonItems(room, lambda record: selection.of(resource(record)))
    page = await request.app[OPERATIONS].list(caller, call_id, listing.query, value.take)
    body: dict[str, Any] = {"@odata.context": selection.context(link.context(call_id))}
    if page.count is not None:
        body["@odata.count"] = page.count
    body["value"] = value.items
    if page.cursor is not None:
        longest = _longest_query(link, call_id)
        query = next_page(pairs, call_id=call_id, query=listing.query, cursor=page.cursor, room=longest)
        body["@odata.nextLink"] = f"{link.collection(call_id)}?{query}"
    return encode(body)


def _longest_query(link: Links, call_id: str) -> int:
    """How long the query string of a link to the list may be."""
    return LONGEST_LINK - len(link.collection(call_id)) - 1
