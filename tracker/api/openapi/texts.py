"""Texts and schemas of the OpenAPI description, read from the YAML files of the folder `description`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

from tracker.api.actions import UNSERVED
from tracker.api.odata.query_options import MAX_PAGE_SIZE, PAGE_SIZE
from tracker.bodies.start_time import LONGEST_WAIT
from tracker.domain.operation import CLIENT_CONTEXT_LIMIT, MESSAGE_LIMIT, Json, OperationStatus

SCHEMA_ROOT: Final = "#/components/schemas/"

_FOLDER: Final = Path(__file__).parent / "description"
_PLACEHOLDER: Final = re.compile(r"<<(\w+)>>")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C reads all files in 13 ms; the parser in Python needs eight times as long.

PyYAML has the parser in C only where it was built with libyaml.
"""


@dataclass(frozen=True, slots=True)
class RouteText:
    """The texts and schemas of one route, as a YAML file gives them.

    The module `responses` adds the headers and failures that follow from the route's path and method. The longer text
    of a route is the docstring of its handler.
    """

    summary: str
    responses: Mapping[HTTPStatus, Json | None]
    """The schema of each response; None for a response without a body."""
    parameters: Sequence[Json] = ()
    body: Json | None = None
    body_required: bool = True
    headers: Mapping[HTTPStatus, Sequence[str]] = field(default_factory=dict)
    """Names of further headers of a success response. HEADERS describes them."""
    errors: Sequence[HTTPStatus] = ()
    """Further statuses of error responses."""
    media_type: str = "application/json"
    """The media type of a success response."""
    error: Json | None = None
    """The schema of an error response. None stands for Graph's error body."""
    error_media_type: str = "application/json"


def ref(name: str) -> Json:
    """A reference to a schema of the description."""
    return {"$ref": f"{SCHEMA_ROOT}{name}"}


def _read(name: str, **values: Any) -> Any:
    """Parse a file. A placeholder `<<name>>` is replaced by the value of that name in JSON, which is valid YAML."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return yaml.load(_PLACEHOLDER.sub(lambda found: json.dumps(values[found[1]]), text), _LOADER)  # noqa: S506 - safe


PATH_PARAMETERS: Final[Mapping[str, Json]] = _read("path_parameters.yaml", unserved_actions=UNSERVED)
PARAMETERS: Final[Mapping[str, Json]] = _read("parameters.yaml", page_size=PAGE_SIZE, max_page_size=MAX_PAGE_SIZE)
"""Parameters in headers and queries, by the names that the texts of routes use."""
COMMON_PARAMETERS: Final = tuple(
    PARAMETERS[name] for name in ("client-request-id", "OData-MaxVersion", "OData-Version")
)
"""Parameters of every route that needs a token."""
SCHEMAS: Final[Mapping[str, Json]] = _read(
    "schemas.yaml",
    statuses=[status.value for status in OperationStatus],
    operation_id=PATH_PARAMETERS["operation_id"],
    client_context_limit=CLIENT_CONTEXT_LIMIT,
    message_limit=MESSAGE_LIMIT,
)
"""The schemas of every description. Those of the registered types are in `type_schemas`."""
START_TIMES: Final[Mapping[str, Json]] = _read("start_times.yaml", longest_wait=LONGEST_WAIT.total_seconds())
"""Members of a create that say when the operation may start."""
HEADERS: Final[Mapping[str, Json]] = _read("headers.yaml")
"""Response headers, by name."""
ERRORS: Final[Mapping[HTTPStatus, Json]] = {HTTPStatus(status): text for status, text in _read("errors.yaml").items()}
"""Descriptions and headers of failures, by status."""
SERVICE: Final[Json] = _read("service.yaml")
"""The head of the description, the token and the body of a request."""


def _schema(named: str | Json | None) -> Json | None:
    """The schema itself, or a reference to the schema of that name."""
    return ref(named) if isinstance(named, str) else named


def _route_text(row: Json) -> RouteText:
    return RouteText(
        **{
            **row,
            "responses": {HTTPStatus(status): _schema(schema) for status, schema in row["responses"].items()},
            "parameters": [PARAMETERS[name] for name in row.get("parameters", ())],
            "body": _schema(row.get("body")),
            "headers": {HTTPStatus(status): names for status, names in row.get("headers", {}).items()},
            "errors": [HTTPStatus(status) for status in row.get("errors", ())],
            "error": _schema(row.get("error")),
        }
    )


ROUTE_TEXTS: Final[Mapping[str, RouteText]] = {
    name: _route_text(row) for file in ("graph.yaml", "google.yaml", "ogc.yaml") for name, row in _read(file).items()
}
"""The text of each route, by the route's name."""
