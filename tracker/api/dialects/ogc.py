"""The dialect of OGC API – Processes, Part 1 (18-062r2): jobs. `ogc_processes` has what makes them.

A job is an operation. What is executed by this dialect becomes an operation of the call `ogc`, which the list of jobs
shows; status, results and dismissal are those of any operation, by its id.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tracker.api.dialects.common import Problem, answer, options, page_query, page_size, page_token
from tracker.api.guard import OPERATIONS, REGISTRY, links
from tracker.api.serializers import percent_complete, timestamp
from tracker.domain.operation import Json, OperationStatus
from tracker.domain.record import Record
from tracker.errors import Gone, NotFound
from tracker.json_codec import encode
from tracker.service import Caller

CALL: Final = "ogc"
"""The call of everything that is executed by this dialect."""
RELATIONS: Final = "http://www.opengis.net/def/rel/ogc/1.0/"

_EXCEPTIONS: Final = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
_FILTERS: Final = frozenset({"type", "processID", "status", "datetime", "minDuration", "maxDuration"})
"""Options of the standard's conformance class `job-list`, which is not claimed."""
_STATUS: Final = {
    OperationStatus.NOT_STARTED: "accepted",
    OperationStatus.RUNNING: "running",
    OperationStatus.COMPLETED: "successful",
    OperationStatus.FAILED: "failed",
}
_CALLERS_DOING: Final = 4
"""The class of HTTP's 4xx, which `resultInfo.code` follows."""


class NoSuchProcess(NotFound):
    """No operation type has the name."""


class ResultNotReady(NotFound):
    """The job has not ended."""


_TYPES: Final[Mapping[type, str]] = {
    NoSuchProcess: f"{_EXCEPTIONS}no-such-process",
    ResultNotReady: f"{_EXCEPTIONS}result-not-ready",
    NotFound: f"{_EXCEPTIONS}no-such-job",
}
"""The exceptions that the standard names; others are told by their status alone (RFC 7807, 4.2)."""


async def collect(request: web.Request, caller: Caller) -> web.Response:
    """List what was executed by this dialect, newest first."""
    asked = options(request, "limit", "cursor", unserved=_FILTERS)
    limit = page_size(asked.get("limit"), "limit", least=1)
    query = page_query(limit, asked.get("cursor"), "cursor")
    page = await request.app[OPERATIONS].list(caller, CALL, query)
    base = base_of(request)
    places = [link(f"{base}/jobs", "self")]
    if token := page_token(page):
        places.append(link(f"{base}/jobs?limit={limit}&cursor={token}", "next"))
    return answer({"jobs": [status_info(record, base) for record in page.records], "links": places})


async def read(request: web.Request, caller: Caller) -> web.Response:
    """Read how far a job is."""
    options(request)
    return answer(status_info(await _find(request, caller), base_of(request)))


async def results(request: web.Request, caller: Caller) -> web.Response:
    """Read what came of a job: its type's result members and `resultInfo`, or why there is nothing."""
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
    return answer({**outcome, "resultInfo": _qualified(_result(record))})


async def dismiss(request: web.Request, caller: Caller) -> web.Response:
    """Cancel a job if it has not ended, and hide it: 410 from then on."""
    options(request)
    record = await _find(request, caller)
    await request.app[OPERATIONS].delete(caller, record.call_id, record.id)
    base = base_of(request)
    return answer({**status_info(record, base), "status": "dismissed", "links": [link(f"{base}/jobs", "up")]})


def status_info(record: Record, base: str) -> Json:
    """The standard's `statusInfo`."""
    stamps = {"created": record.created, "started": record.started, "finished": record.completed}
    body: Json = {
        "jobID": record.id,
        "processID": record.type.removeprefix("#"),
        "type": "process",
        "status": "dismissed" if record.canceled else _STATUS[record.status],
        "message": _result(record)["message"] if record.status.final else record.detail,
        **{name: timestamp(stamp) for name, stamp in stamps.items() if stamp},
        "updated": timestamp(record.changed),
    }
    if (percent := percent_complete(record)) is not None:
        body["progress"] = percent
    place = job_place(record, base)
    body["links"] = [link(place, "self"), link(f"{base}/jobs", "up")]
    if record.status.final and not record.canceled:
        relation = "exceptions" if record.status is OperationStatus.FAILED else "results"
        body["links"].append(link(f"{place}/results", f"{RELATIONS}{relation}"))
    return body


def problem(problem: Problem) -> web.Response:
    """An error as RFC 7807 has it, with the wrong members as `errors`."""
    kind = _TYPES.get(type(problem.cause), "about:blank")
    errors = [{"target": item.target, "message": item.message} for item in problem.details]
    return _exception(problem, kind, {"errors": errors} if errors else {})


def base_of(request: web.Request) -> str:
    """Where this dialect stands."""
    return f"{links(request).base}/ogc"


def job_place(record: Record, base: str) -> str:
    """A job's address."""
    return f"{base}/jobs/{record.id}"


def link(href: str, rel: str, kind: str = "application/json") -> Json:
    """The standard's `link`."""
    return {"href": href, "rel": rel, "type": kind}


def _failure(record: Record) -> web.Response:
    """Why a job failed: the standard wants an error, and it is none of this request's own (RFC 4918, 11.4)."""
    result = _result(record)
    message = result.pop("message")
    if result["code"] // 100 == _CALLERS_DOING:
        return _exception(Problem(HTTPStatus.BAD_REQUEST, message), "InvalidParameterValue", result)
    return _exception(Problem(HTTPStatus.FAILED_DEPENDENCY, message), "NoApplicableCode", result)


def _exception(problem: Problem, kind: str, more: Json) -> web.Response:
    told = {"title": HTTPStatus(problem.status).phrase, "status": problem.status, "detail": problem.message}
    body = encode({"type": kind, **told, **more})
    return web.Response(
        body=body, status=problem.status, headers=problem.headers, content_type="application/problem+json"
    )


def _result(record: Record) -> Json:
    result = record.result_info
    if result is None:
        return {"code": 0, "subcode": 0, "message": ""}
    return {"code": result.code, "subcode": result.subcode, "message": result.message}


def _qualified(value: Any) -> Any:
    """A result's value: an object is wrapped, because a plain one could be a link (`inlineOrRefData`)."""
    return {"value": value} if isinstance(value, dict) else value


async def _find(request: web.Request, caller: Caller) -> Record:
    return await request.app[OPERATIONS].find(caller, request.match_info["operation_id"])
