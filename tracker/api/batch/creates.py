"""Batches of plain creates in one call, which most are: what they have in common is found out once.

They are let in as one request with many bodies, and each is then judged and answered like one that stands alone.
"""

import re
from collections.abc import Sequence
from typing import Final, cast

from aiohttp import web

from tracker.api.batch.batch_body import Part
from tracker.api.batch.responses import element, headers_of, in_common, written
from tracker.api.batch.subrequest import Parts
from tracker.api.operations import Answers
from tracker.api.request_bodies import ManyBodies
from tracker.api.server import Connection, new_request_id
from tracker.errors import Invalid

_PATH: Final = re.compile(r"(?:/v1\.0|/beta)?/communications/calls/[^/?]+/operations")
_PLAIN: Final = frozenset({"accept", "content-type"})
"""Headers that ask for nothing which one create has for itself."""


async def answer_creates(request: web.Request, parts: Parts, requests: Sequence[Part]) -> list[bytes] | None:
    """The elements of the batch's answer; None, and nothing is done, where its requests are not such creates."""
    if not _alike(requests):
        return None
    try:
        message, _ = parts.read(requests[0])
    except Invalid:
        return None
    if not _PATH.fullmatch(message.path):
        return None
    server = cast("Connection", request.protocol).server
    answer = await server.answer_inside(request, message, ManyBodies([part.body for part in requests]))
    if not isinstance(answer, Answers):  # none was let in
        return None
    common = in_common({name: text for name, text in headers_of(answer).items() if name != "request-id"})
    elements = []
    for part, one in zip(requests, answer.each, strict=True):
        if isinstance(one, Exception):
            elements.append(written(part.id, server.refuse_inside(request, message, one)))
        else:
            headers = {**{name.lower(): text for name, text in one.headers.items()}, "request-id": new_request_id()}
            elements.append(element(part.id, one.status, headers, one.body, common=common))
    return elements


def _alike(requests: Sequence[Part]) -> bool:
    """Whether they differ in their bodies only, and none has preferences or depends on others."""
    first = requests[0]
    return (
        len(requests) > 1
        and first.method == "POST"
        and all(name.lower() in _PLAIN for name in first.headers)
        and all(
            part.url == first.url
            and part.method == first.method
            and part.body is not None
            and not part.after
            and part.unsupported is None
            and part.headers == first.headers
            for part in requests
        )
    )
