"""Jobs in the dialect of OGC API – Processes, Part 1 (18-062r2). `ogc_processes` has the processes that make jobs.

A job is an operation. Executing a process creates an operation in the call `ogc`, and the list of jobs has the
operations of that call. Status, results and dismissal accept the id of any operation, also of another call.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tracker.api.answers import JsonItems, PartOfRoom, Room, room_for, send
from tracker.api.dialects.common import Problem, json_response, options, page_query, page_size, page_token
from tracker.api.guard import OPERATIONS, REGISTRY, links
from tracker.api.serializers import percent_complete, timestamp
from tracker.domain.operation import Json, OperationStatus
from tracker.domain.record import Record
from tracker.errors import Gone, NotFound
from tracker.json_codec import encode
from tracker.listing.query import ListQuery
from tracker.service import Caller

CALL: Final = "ogc"
"""The call of all operations that this dialect creates."""
RELATIONS: Final = "http://www.opengis.net/def/rel/ogc/1.0/"

_EXCEPTIONS: Final = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
_FILTERS: Final = frozenset({"type", "processID", "status", "datetime", "minDuration", "maxDuration"})
"""Query options of the conformance class `job-list`, which this service does not implement."""
_STATUS: Final = {
    OperationStatus.NOT_STARTED: "accepted",
    OperationStatus.RUNNING: "running",
    OperationStatus.COMPLETED: "successful",
    OperationStatus.FAILED: "failed",
}
_CLIENT_ERROR: Final = 4
"""The class of the codes 400 to 499 in `resultInfo.code`, as in HTTP."""


class NoSuchProcess(NotFound):
    """No operation type has the name."""


class ResultNotReady(NotFound):
    """The job has not ended."""


_EXCEPTION_TYPES: Final[Mapping[type, str]] = {
    NoSuchProcess: f"{_EXCEPTIONS}no-such-process",
    ResultNotReady: f"{_EXCEPTIONS}result-not-ready",
    NotFound: f"{_EXCEPTIONS}no-such-job",
}
"""Types of the exceptions that the standard names. Other errors have `about:blank`, and differ by their status only
(RFC 7807, 4.2)."""


async def collect(request: web.Request, caller: Caller) -> web.StreamResponse:
    """List the jobs that this dialect has created, newest first."""
    given = options(request, "limit", "cursor", unserved=_FILTERS)
    limit = page_size(given.get("limit"), "limit", least=1)
    query = page_query(limit, given.get("cursor"), "cursor")
    async with room_for(request, caller.tenant) as room:
        return await send(request, await _page(request, caller, query, room), room)


async def _page(request: web.Request, caller: Caller, query: ListQuery, room: Room | PartOfRoom) -> web.Response:
    base = base_of(request)
    jobs = JsonItems(room, lambda record: status_info(record, base))
    page = await request.app[OPERATIONS].list(caller, CALL, query, jobs.take)
    page_links = [link(f"{base}/jobs", "self")]
    if token := page_token(page):
        page_links.append(link(f"{base}/jobs?limit={query.top}&cursor={token}", "next"))
    return json_response({"jobs": jobs.items, "links": page_links})


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read the status of a job."""
    options(request)
    return json_response(status_info(await _find(request, caller), base_of(request)))


async def results(request: web.Request, caller: Caller) -> web.Response:
    """Read the results of a job: the result members of its type and `resultInfo`, or the error of a failed job."""
    options(request)
    record = await _find(request, caller)
    if not record.status.final:
        raise ResultNotReady("The job has not ended; it has no results yet.")
    if record.canceled:
        raise Gone("The job was dismissed; it has no results.")
    if record.status is OperationStatus.FAILED:
        return _failure(record)
    entry = request.app[REGISTRY].get(record.type)
    names = () if entry is None else sorted(entry.model.result_members() & record.members.keys())
    outcome = {name: _qualified(record.members[name]) for name in names}
    return json_response({**outcome, "resultInfo": _qualified(_result(record))})


async def dismiss(request: web.Request, caller: Caller) -> web.Response:
    """Cancel a job if it has not ended, and hide it. Later requests for the job are answered with 410."""
    options(request)
    record = await _find(request, caller)
    await request.app[OPERATIONS].delete(caller, record.call_id, record.id)
    base = base_of(request)
    return json_response({**status_info(record, base), "status": "dismissed", "links": [link(f"{base}/jobs", "up")]})


def status_info(record: Record, base: str) -> Json:
    """The standard's `statusInfo`."""
    times = {"created": record.created, "started": record.started, "finished": record.completed}
    body: Json = {
        "jobID": record.id,
        "processID": record.type.removeprefix("#"),
        "type": "process",
        "status": "dismissed" if record.canceled else _STATUS[record.status],
        "message": _result(record)["message"] if record.status.final else record.detail,
        **{name: timestamp(time) for name, time in times.items() if time},
        "updated": timestamp(record.changed),
    }
    if (percent := percent_complete(record)) is not None:
        body["progress"] = percent
    address = job_address(record, base)
    body["links"] = [link(address, "self"), link(f"{base}/jobs", "up")]
    if record.status.final and not record.canceled:
        relation = "exceptions" if record.status is OperationStatus.FAILED else "results"
        body["links"].append(link(f"{address}/results", f"{RELATIONS}{relation}"))
    return body


def problem(problem: Problem) -> web.Response:
    """An error response as RFC 7807 defines it, with the wrong members as `errors`."""
    exception_type = _EXCEPTION_TYPES.get(type(problem.cause), "about:blank")
    errors = [{"target": item.target, "message": item.message} for item in problem.details]
    return _exception(problem, exception_type, {"errors": errors} if errors else {})


def base_of(request: web.Request) -> str:
    """The address of this dialect's landing page, without a slash at its end."""
    return f"{links(request).base}/ogc"


def job_address(record: Record, base: str) -> str:
    """The address of a job."""
    return f"{base}/jobs/{record.id}"


def link(href: str, rel: str, media_type: str = "application/json") -> Json:
    """The standard's `link`."""
    return {"href": href, "rel": rel, "type": media_type}


def _failure(record: Record) -> web.Response:
    """The response to a request for the results of a failed job. The standard demands an error response.

    The status is 400 if the inputs of the job were wrong. Otherwise it is 424 (RFC 4918, 11.4), because this request
    itself is right.
    """
    result = _result(record)
    message = result.pop("message")
    if result["code"] // 100 == _CLIENT_ERROR:
        return _exception(Problem(HTTPStatus.BAD_REQUEST, message), "InvalidParameterValue", result)
    return _exception(Problem(HTTPStatus.FAILED_DEPENDENCY, message), "NoApplicableCode", result)


def _exception(problem: Problem, exception_type: str, members: Json) -> web.Response:
    standard = {"title": HTTPStatus(problem.status).phrase, "status": problem.status, "detail": problem.message}
    body = encode({"type": exception_type, **standard, **members})
    return web.Response(
        body=body, status=problem.status, headers=problem.headers, content_type="application/problem+json"
    )


def _result(record: Record) -> Json:
    result = record.result_info
    if result is None:
        return {"code": 0, "subcode": 0, "message": ""}
    return {"code": result.code, "subcode": result.subcode, "message": result.message}


def _qualified(value: Any) -> Any:
    """The value of a result.

    An object is wrapped: bare, it could be mistaken for a link (the schema `inlineOrRefData`).
    """
    return {"value": value} if isinstance(value, dict) else value


async def _find(request: web.Request, caller: Caller) -> Record:
    return await request.app[OPERATIONS].find(caller, request.match_info["operation_id"])
