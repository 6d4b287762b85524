"""Batches of plain creates in one Graph call. The service creates all operations of such a batch together.

Each create has the same outcome and response as if it had come by itself. The module is there for speed. Plain code
would leave these batches to the routes, like all others. That costs 70 % more instructions in `make bench-api`: $batch.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage

from tracker.api.batch.batch_body import BatchRequest
from tracker.api.batch.responses import element, element_headers, element_of
from tracker.api.batch.subrequest import SubrequestReader
from tracker.api.connection import ids_of, new_request_id, standard_headers
from tracker.api.guard import OPERATIONS, PUBLIC_URL
from tracker.api.headers import accepts, is_json
from tracker.api.representation import Representation, ResponseParts
from tracker.api.server import server_of
from tracker.domain.operation import Json
from tracker.errors import TrackerError
from tracker.service import Caller
from tracker.store.store import Created

_PATH: Final = re.compile(r"(/v1\.0|/beta|)/communications/calls/[^/?]+/operations")
_PLAIN_HEADERS: Final = frozenset({"accept", "content-type"})
"""The headers of a plain create. Any other header may ask for something that only the routes do."""
_JSON: Final = {"content-type": "application/json"}


async def answer_creates(
    batch: web.Request, caller: Caller, reader: SubrequestReader, requests: Sequence[BatchRequest]
) -> list[Json] | None:
    """Create the operations, and return the elements of the response.

    Does nothing and returns None unless all requests are plain creates.
    """
    if not _are_plain_creates(requests):
        return None
    try:
        message, _ = reader.read(requests[0])
    except TrackerError:
        return None
    path = _PATH.fullmatch(message.path)
    if path is None or not _has_json_types(message):
        return None
    operations = batch.app[OPERATIONS]
    call_id = message.url.parts[-2]  # decoded as the router decodes it
    outcomes = await operations.create_many(caller, call_id, [request.body for request in requests])
    links = batch.app[PUBLIC_URL].links(batch, prefix=path[1])
    representation = Representation(links, operations.estimator, call_id)
    common = element_headers({**standard_headers(batch, ids_of(batch.headers)), **_JSON})
    elements = []
    for request, outcome in zip(requests, outcomes, strict=True):
        try:
            elements.append(_element(request.id, _parts(representation, outcome), common))
        except Exception as error:  # noqa: BLE001 - the error is the outcome of this create only
            elements.append(element_of(request.id, server_of(batch).refuse_subrequest(batch, message, error)))
    return elements


def _are_plain_creates(requests: Sequence[BatchRequest]) -> bool:
    """Whether the requests differ in their bodies only, which are objects, and have no preferences or dependencies."""
    first = requests[0]
    return (
        len(requests) > 1
        and first.method == "POST"
        and all(name.lower() in _PLAIN_HEADERS for name in first.headers or ())
        and all(
            isinstance(request.body, dict)
            and request.url == first.url
            and request.method == first.method
            and not request.depends_on
            and request.unsupported is None
            and request.headers == first.headers
            for request in requests
        )
    )


def _has_json_types(message: RawRequestMessage) -> bool:
    """Whether the body is JSON, and the response may be."""
    headers = message.headers
    return is_json(headers.get(hdrs.CONTENT_TYPE, "")) and accepts(headers.get(hdrs.ACCEPT, ""), "application/json")


def _parts(representation: Representation, outcome: Created | Exception) -> ResponseParts:
    if isinstance(outcome, Exception):
        raise outcome
    record, new = outcome
    return representation.accepted(record, new=new)


def _element(request_id: str, parts: ResponseParts, common: Mapping[str, str]) -> Json:
    own = {name.lower(): value for name, value in parts.headers.items()}
    headers = {**common, **own, "request-id": new_request_id()}
    return element(request_id, parts.status, headers, parts.body)
