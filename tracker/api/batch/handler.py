"""The handler of `/$batch`. Each request of a batch goes through the routes, as if it had come by itself.

All requests are run, even if some fail. Graph does so, and so does OData unless a client asks otherwise (JSON Format
4.01, 19.5). Requests run at the same time, except for those that depend on others.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web

from tracker.api import request_bodies
from tracker.api.answers import PART_OF_BATCH, BatchRoom, PartOfRoom, Room, body_size, room_for, send
from tracker.api.batch.batch_body import BatchRequest, read_batch
from tracker.api.batch.creates import answer_creates
from tracker.api.batch.responses import element_of, encode_responses
from tracker.api.batch.subrequest import SubrequestReader
from tracker.api.headers import lines_of, preferences
from tracker.api.server import is_subrequest, server_of
from tracker.domain.operation import Json
from tracker.errors import FailedDependency, Invalid, TrackerError
from tracker.service import Caller

LEVELS_AROUND_BODY: Final = 3
"""How many levels deeper the body of a request is nested in a batch than outside."""
_CONTINUE: Final = ("continue-on-error", "odata.continue-on-error")
_ResponseTask = asyncio.Task[web.Response]


async def run(batch: web.Request, caller: Caller) -> web.StreamResponse:
    """Run all requests of a batch. The response is 200, even if all of them fail.

    The requests share the room of one answer. A list that gets less room than it needs ends with a link to its next
    page.
    """
    if is_subrequest(batch):
        raise Invalid("A batch cannot contain a batch.")
    requests = read_batch(await request_bodies.read_object(batch, caller, deeper=LEVELS_AROUND_BODY))
    async with room_for(batch, caller.tenant) as room:
        whole = cast("Room", room)
        body = await _body(batch, caller, requests, whole)
        whole.count_whole(len(body))
        response = web.Response(body=body, headers=_preference_applied(batch), content_type="application/json")
        return await send(batch, response, room)


async def _body(batch: web.Request, caller: Caller, requests: Sequence[BatchRequest], room: Room) -> bytes:
    reader = SubrequestReader(batch)
    elements = await answer_creates(batch, caller, reader, requests)
    if elements is None:
        elements = await _run_each(batch, reader, requests, BatchRoom(room, len(requests)))
    return encode_responses(elements)


async def _run_each(
    batch: web.Request, reader: SubrequestReader, requests: Sequence[BatchRequest], room: BatchRoom
) -> list[Json]:
    """Run each request by itself, and all at the same time except for those that depend on others."""
    tasks: list[_ResponseTask] = []
    tasks_by_name: defaultdict[str, list[_ResponseTask]] = defaultdict(list)
    async with asyncio.TaskGroup() as group:
        for request in requests:
            earlier = [task for name in request.depends_on for task in tasks_by_name[name.lower()]]
            task = group.create_task(_run_one(batch, reader, request, earlier, room.part()))
            tasks.append(task)
            for name in request.names:
                tasks_by_name[name].append(task)
    return [element_of(request.id, task.result()) for request, task in zip(requests, tasks, strict=True)]


async def _run_one(
    batch: web.Request,
    reader: SubrequestReader,
    request: BatchRequest,
    earlier: Sequence[_ResponseTask],
    part: PartOfRoom,
) -> web.Response:
    """Run one request after the earlier ones that it depends on. The task of the request has `part` of the room."""
    PART_OF_BATCH.set(part)
    server = server_of(batch)
    failed = [task for task in earlier if (await task).status >= HTTPStatus.BAD_REQUEST]
    error: TrackerError
    try:
        message, payload = reader.read(request)
        request.body = None  # the handler takes the body from the payload, and may then wait for long
    except TrackerError as refused:
        error = refused
    else:
        if failed:
            error = FailedDependency("A request that this one depends on has failed.")
        else:
            response = await server.respond_to_subrequest(batch, message, payload)
            if isinstance(response, web.Response) and isinstance(response.body, bytes | None):
                part.close(body_size(response))
                return response
            error = Invalid("This response cannot be part of a batch's response. Send this request outside the batch.")
    return server.refuse_subrequest(batch, reader.head_of_refused(request), error)


def _preference_applied(batch: web.Request) -> Mapping[str, str]:
    """The header Preference-Applied, if the client prefers that all requests are run. They are run in any case."""
    asked = preferences(lines_of(batch.headers, "Prefer"))
    name = next((name for name in _CONTINUE if asked.get(name) in {"", "true"}), None)
    return {} if name is None else {"Preference-Applied": name}
