"""Processes and the landing page in the dialect of OGC API – Processes, Part 1 (18-062r2).

A process is an operation type. Its id is the type's name without the `#`. Its inputs are the members that a create
takes. Its outputs are the result members that the type's handler sets.
"""

from http import HTTPStatus
from inspect import cleandoc
from typing import Any, Final

from aiohttp import web

from tracker.api import request_bodies
from tracker.api.dialects import openapi30
from tracker.api.dialects.common import json_response, options, page_size
from tracker.api.dialects.ogc import CALL, RELATIONS, NoSuchProcess, base_of, job_address, link, status_info
from tracker.api.guard import OPERATIONS, REGISTRY, links
from tracker.api.headers import lines_of, preferences
from tracker.domain.operation import Json, Operation, ResultInfo
from tracker.domain.type_registry import OperationType
from tracker.errors import Invalid, NotSupported
from tracker.service import Caller

CONFORMANCE: Final = tuple(
    f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}"
    for name in ("core", "ogc-process-description", "json", "dismiss")
)

_OPENAPI: Final = "application/vnd.oai.openapi+json;version=3.1"
_QUALIFIERS: Final = frozenset({"value", "mediaType", "encoding", "schema"})
_MEMBERS: Final = frozenset({"inputs", "outputs", "response", "subscriber"})


async def landing(request: web.Request, _: Caller) -> web.Response:
    """Link to the description, the conformance classes, the processes and the jobs."""
    options(request)
    base = base_of(request)
    page_links = [
        link(f"{base}/", "self"),
        link(f"{links(request).base}/openapi.json", "service-desc", _OPENAPI),
        link(f"{base}/conformance", f"{RELATIONS}conformance"),
        link(f"{base}/processes", f"{RELATIONS}processes"),
        link(f"{base}/jobs", f"{RELATIONS}job-list"),
    ]
    return json_response(
        {"title": "Operation tracker", "description": "Operations, as processes and jobs", "links": page_links}
    )


async def conformance(request: web.Request, _: Caller) -> web.Response:
    """List the conformance classes that this service claims."""
    options(request)
    return json_response({"conformsTo": CONFORMANCE})


async def collect(request: web.Request, _: Caller) -> web.Response:
    """List the operation types. With `limit`, the list has the first types only."""
    given = options(request, "limit")
    limit = page_size(given["limit"], "limit", least=1) if given else None
    base = base_of(request)
    summaries = [_summary(entry, base) for entry in list(request.app[REGISTRY].values())[:limit]]
    return json_response({"processes": summaries, "links": [link(f"{base}/processes", "self")]})


async def read(request: web.Request, _: Caller) -> web.Response:
    """Describe an operation type, with its inputs and outputs."""
    options(request)
    entry = _process(request)
    schema = entry.model.model_json_schema()
    members = openapi30.converted(schema, schema.get("$defs", {}))
    properties, required = members.get("properties", {}), members.get("required", ())
    results = entry.model.result_members()
    inputs = {
        name: {"title": member.get("title", name), "minOccurs": int(name in required), "schema": member}
        for name, member in properties.items()
        if name not in results
    }
    set_by_handler = {name: properties[name] for name in properties if name in results}
    set_by_handler["resultInfo"] = openapi30.converted(ResultInfo.model_json_schema(), {})
    outputs = {name: {"title": member.get("title", name), "schema": member} for name, member in set_by_handler.items()}
    return json_response({**_summary(entry, base_of(request)), "inputs": inputs, "outputs": outputs})


async def execute(request: web.Request, caller: Caller) -> web.Response:
    """Create an operation. It runs asynchronously, whatever `Prefer` says, because no process can run synchronously."""
    options(request)
    entry = _process(request)
    inputs = _inputs(await request_bodies.read_object(request, caller))
    record, _ = await request.app[OPERATIONS].create(caller, CALL, {**inputs, "@odata.type": entry.name})
    base = base_of(request)
    headers = {"Location": job_address(record, base)}
    if "respond-async" in preferences(lines_of(request.headers, "Prefer")):
        headers["Preference-Applied"] = "respond-async"
    return json_response(status_info(record, base), status=HTTPStatus.CREATED, headers=headers)


def _process(request: web.Request) -> OperationType:
    """The operation type that the path names. Raises NoSuchProcess."""
    name = request.match_info["process_id"]
    entry = request.app[REGISTRY].get(name)
    if entry is None:
        raise NoSuchProcess(f"There is no process '{name[:128]}'.")
    return entry


def _summary(entry: OperationType, base: str) -> Json:
    name = entry.name.removeprefix("#")
    address = f"{base}/processes/{name}"
    return {
        "id": name,
        "title": name.rpartition(".")[2],
        "description": cleandoc((entry.handler if entry.model is Operation else entry.model).__doc__ or ""),
        "version": "1",
        "jobControlOptions": ["async-execute", "dismiss"],
        "outputTransmission": ["value"],
        "links": [link(address, "self"), link(f"{address}/execution", f"{RELATIONS}execute")],
    }


def _inputs(body: Json) -> Json:
    """The inputs of an execute request.

    Raises Invalid, or NotSupported for a feature of the standard that this service does not have.
    """
    if unknown := sorted(body.keys() - _MEMBERS):
        raise Invalid(f"{unknown[0][:80]}: is not a member of an execute request", target=unknown[0][:80])
    if body.get("subscriber") is not None:
        raise NotSupported("subscriber: callbacks are not supported here", target="subscriber")
    outputs = body.get("outputs", {})
    if not isinstance(outputs, dict):
        raise Invalid("outputs: must be an object", target="outputs")
    if outputs:
        raise NotSupported(
            "outputs: a choice of outputs is not supported here; leave it out to get all outputs", target="outputs"
        )
    match body.get("response", "document"):
        case "document":
            pass
        case "raw":
            raise NotSupported("response: raw is not supported here; results are a document", target="response")
        case _:
            raise Invalid("response: must be document", target="response")
    inputs = body.get("inputs", {})
    if not isinstance(inputs, dict):
        raise Invalid("inputs: must be an object", target="inputs")
    return {name: _plain(name, value) for name, value in inputs.items()}


def _plain(name: str, value: Any) -> Any:
    """The value of an input. An object may be wrapped as a qualified value (`qualifiedInputValue`)."""
    if isinstance(value, dict):
        if "value" in value and value.keys() <= _QUALIFIERS:
            return value["value"]
        if "href" in value:
            raise NotSupported(f"{name[:80]}: a link in place of a value is not supported here", target=name[:80])
    return value
