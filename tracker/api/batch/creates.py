"""Batches of plain creates in one call, which most are: one call of the service and of its script for all of them.

Each create is judged, stored and answered as if it had come by itself.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from tracker.api.batch.batch_body import BatchRequest
from tracker.api.batch.responses import element, element_headers, element_of
from tracker.api.batch.subrequest import Parts
from tracker.api.guard import ADDRESSES, OPERATIONS
from tracker.api.headers import accepts_json, is_json
from tracker.api.representation import Answer, Representation
from tracker.api.server import Connection, ids_of, new_request_id, standard_headers
from tracker.domain.operation import Json
from tracker.errors import Invalid
from tracker.service import Caller
from tracker.store.store import Created

_PATH: Final = re.compile(r"(/v1\.0|/beta|)/communications/calls/[^/?]+/operations")
_PLAIN_HEADERS: Final = frozenset({"accept", "content-type"})
"""The headers of a plain create. Any other header may ask for something that only the general way does."""
_JSON: Final = {"content-type": "application/json"}


async def answer_creates(
    request: web.Request, caller: Caller, parts: Parts, requests: Sequence[BatchRequest]
) -> list[Json] | None:
    """The elements of the batch's answer; None, and nothing is done, unless its requests are plain creates."""
    if not _are_plain_creates(requests):
        return None
    try:
        message, _ = parts.read(requests[0])
    except Invalid:
        return None
    path = _PATH.fullmatch(message.path)
    if path is None or not _is_acceptable(message):
        return None
    operations = request.app[OPERATIONS]
    call_id = message.url.parts[-2]  # decoded, as the router decodes it
    outcomes = await operations.create_many(caller, call_id, [part.body for part in requests])
    links = request.app[ADDRESSES].links(request, prefix=path[1])
    representation = Representation(links, operations.pace, call_id)
    common = element_headers({**standard_headers(request, ids_of(request.headers)), **_JSON})
    elements = []
    for part, outcome in zip(requests, outcomes, strict=True):
        try:
            elements.append(_element(part.id, _answer(representation, outcome), common))
        except Exception as error:  # noqa: BLE001 - it is the answer to this create alone
            server = cast("Connection", request.protocol).server
            elements.append(element_of(part.id, server.refuse_inside(request, message, error)))
    return elements


def _are_plain_creates(requests: Sequence[BatchRequest]) -> bool:
    """Whether they differ in their bodies only, which are objects, and ask for nothing but that they are done."""
    first = requests[0]
    return (
        len(requests) > 1
        and first.method == "POST"
        and all(name.lower() in _PLAIN_HEADERS for name in first.headers or ())
        and all(
            isinstance(part.body, dict)
            and part.url == first.url
            and part.method == first.method
            and not part.depends_on
            and part.unsupported is None
            and part.headers == first.headers
            for part in requests
        )
    )


def _is_acceptable(message: RawRequestMessage) -> bool:
    """Whether the body and the answer are of types that a create takes and gives."""
    headers = message.headers
    return is_json(headers.get(hdrs.CONTENT_TYPE, "")) and accepts_json(headers.get(hdrs.ACCEPT, ""))


def _answer(representation: Representation, outcome: Created | Exception) -> Answer:
    if isinstance(outcome, Exception):
        raise outcome
    record, new = outcome
    return representation.accepted(record, new=new)


def _element(request_id: str, answer: Answer, common: Mapping[str, str]) -> Json:
    headers = {**common, **element_headers(answer.headers), "request-id": new_request_id()}
    return element(request_id, answer.status, headers, answer.body)
