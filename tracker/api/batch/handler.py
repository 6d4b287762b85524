"""`/$batch`: many requests in one. Each is answered by the same routes as if it had come by itself.

Graph runs all requests, whatever becomes of the others, and so does OData's JSON batch unless it is told otherwise
(JSON Format 4.01, 19.5). What depends on others is run after them, everything else at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web

from tracker.api import request_bodies
from tracker.api.batch.batch_body import BatchRequest, read_batch
from tracker.api.batch.creates import answer_creates
from tracker.api.batch.responses import element_of, encode_responses
from tracker.api.batch.subrequest import Parts
from tracker.api.headers import preferences
from tracker.api.server import Connection, is_inside
from tracker.domain.operation import Json
from tracker.errors import FailedDependency, Invalid, TrackerError
from tracker.service import Caller

MEMBERS_ABOVE: Final = 3
"""How much deeper a body in a batch is nested than one that stands alone."""
_CONTINUE: Final = ("continue-on-error", "odata.continue-on-error")
_Running = asyncio.Task[web.Response]


async def run(request: web.Request, caller: Caller) -> web.Response:
    """Run all requests of a batch, each let in by itself; 200 whatever becomes of them."""
    if is_inside(request):
        raise Invalid("A batch cannot stand in a batch.")
    requests = read_batch(await request_bodies.read_object(request, deeper=MEMBERS_ABOVE))
    parts = Parts(request)
    elements = await answer_creates(request, caller, parts, requests) or await _answer_each(request, parts, requests)
    return web.Response(
        body=encode_responses(elements),
        headers=_preference_applied(request),
        content_type="application/json",
    )


async def _answer_each(request: web.Request, parts: Parts, requests: Sequence[BatchRequest]) -> list[Json]:
    """Answer each request by itself, all at once but for those that depend on others."""
    running: list[_Running] = []
    by_name: defaultdict[str, list[_Running]] = defaultdict(list)
    async with asyncio.TaskGroup() as group:
        for part in requests:
            before = [task for name in part.depends_on for task in by_name[name.lower()]]
            running.append(group.create_task(_answer(request, parts, part, before)))
            for name in part.names:
                by_name[name].append(running[-1])
    return [element_of(part.id, task.result()) for part, task in zip(requests, running, strict=True)]


async def _answer(request: web.Request, parts: Parts, part: BatchRequest, before: Sequence[_Running]) -> web.Response:
    """Answer one request, once those before it that it depends on are answered."""
    server = cast("Connection", request.protocol).server
    failed = [other for other in before if (await other).status >= HTTPStatus.BAD_REQUEST]
    refusal: TrackerError
    try:
        message, payload = parts.read(part)
    except Invalid as error:
        refusal = error
    else:
        if failed:
            refusal = FailedDependency("A request that this one depends on has failed.")
        else:
            answer = await server.answer_inside(request, message, payload)
            if isinstance(answer, web.Response) and isinstance(answer.body, bytes | None):
                return answer
            refusal = Invalid("This answer cannot stand in a batch; send the request by itself.")
    return server.refuse_inside(request, parts.bare(part), refusal)


def _preference_applied(request: web.Request) -> Mapping[str, str]:
    """All requests are run in any case; that is said when it was asked for."""
    asked = preferences(request.headers.getall("Prefer", ()))
    name = next((name for name in _CONTINUE if asked.get(name) in {"", "true"}), None)
    return {} if name is None else {"Preference-Applied": name}
