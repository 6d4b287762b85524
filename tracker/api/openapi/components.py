"""What the texts of the OpenAPI description are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from tracker.domain.operation import Json

SCHEMA_ROOT: Final = "#/components/schemas/"


def ref(name: str) -> Json:
    """A reference to a schema of the description."""
    return {"$ref": f"{SCHEMA_ROOT}{name}"}


def parameter(place: str, name: str, description: str, schema: Json | None = None) -> Json:
    """A parameter in the `place` "header" or "query"; a string, unless its schema says otherwise."""
    return {"name": name, "in": place, "description": description, "schema": schema or {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Text:
    """What is said about one route, beside what follows from the route itself (`openapi_answers`).

    An answer's schema is None when it has no body. `headers` and `errors` are those that do not follow; `headers`
    are names, described in `openapi_answers.HEADERS`. `media_type` is that of a success, `error` and `error_type`
    are schema and media type of a failure that is not Graph's. The description is the docstring of the handler.
    """

    summary: str
    answers: Mapping[HTTPStatus, Json | None]
    parameters: Sequence[Json] = field(default_factory=tuple)
    body: Json | None = None
    body_required: bool = True
    headers: Mapping[HTTPStatus, Sequence[str]] = field(default_factory=dict)
    errors: Sequence[HTTPStatus] = ()
    media_type: str = "application/json"
    error: Json | None = None
    error_type: str = "application/json"
