"""The body of a batch, in OData's JSON batch format (JSON Format 4.01, 19.1) as Graph's clients write it."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from tracker.bodies.field_errors import FieldErrors
from tracker.domain.operation import Json

MOST_REQUESTS: Final = 20
"""How many requests a batch has at most, as in Graph."""
MOST_DEPENDENCIES: Final = 2 * MOST_REQUESTS
"""How many earlier requests and atomicity groups a request depends on at most."""

_EMPTY_OBJECT: Final = "e30="
"""`{}` in base64: how Microsoft's Python client writes a body that is an empty object."""
_NOT_AN_OBJECT: Final = "model_type"
"""pydantic's name for the error that a request is not an object. Its message would name our class."""


def _check_headers(headers: dict[str, Any]) -> dict[str, str]:
    """Check the values up to the first fault. pydantic would report each of a hundred thousand faults."""
    for value in headers.values():
        if not isinstance(value, str):
            raise PydanticCustomError("header", "must hold strings")
    return headers


_Ids = Annotated[list[str], Field(fail_fast=True, max_length=MOST_DEPENDENCIES)]


class BatchRequest(BaseModel):
    """One request of a batch. A member that is null counts as absent."""

    model_config = ConfigDict(strict=True)

    id: Annotated[str, StringConstraints(min_length=1)]
    method: Annotated[str, StringConstraints(min_length=1, to_upper=True)]
    url: Annotated[str, StringConstraints(min_length=1)]
    headers: Annotated[dict[str, Any], AfterValidator(_check_headers)] | None = None
    body: Any = None
    depends_on_by_odata: _Ids | None = Field(None, alias="dependsOn")
    depends_on_by_sdk: _Ids | None = Field(None, alias="depends_on")
    """The name that Microsoft's Python client sends."""
    atomicity_group: str | None = Field(None, alias="atomicityGroup")
    condition: Any = Field(None, alias="if")

    @property
    def depends_on(self) -> Sequence[str]:
        """Ids and atomicity groups of the earlier requests that must be completed first."""
        return [*(self.depends_on_by_odata or ()), *(self.depends_on_by_sdk or ())]

    @property
    def names(self) -> Sequence[str]:
        """The names by which a later request may depend on this one, in lower case."""
        group = self.atomicity_group
        return [self.id.lower()] if group is None else [self.id.lower(), group.lower()]

    @property
    def unsupported(self) -> str | None:
        """The name of a member that asks for an unsupported feature; None if there is no such member."""
        if self.atomicity_group is not None:
            return "atomicityGroup"
        return None if self.condition is None else "if"


class _Batch(BaseModel):
    requests: Annotated[list[BatchRequest], Field(min_length=1, max_length=MOST_REQUESTS)]


def read_batch(body: Json) -> Sequence[BatchRequest]:
    """The requests of a batch, in their order. Raises Invalid, which names every malformed member."""
    errors = FieldErrors()
    requests: Sequence[BatchRequest] = ()
    try:
        requests = _Batch.model_validate(body).requests
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            message = "must be an object" if item["type"] == _NOT_AN_OBJECT else item["msg"]
            errors.add("/".join(map(str, item["loc"][:3])), message)
    _check_names(requests, errors)
    errors.raise_any()
    for request in requests:
        if request.body == _EMPTY_OBJECT:
            request.body = {}
    return requests


def _check_names(requests: Sequence[BatchRequest], errors: FieldErrors) -> None:
    """Check that ids are unique, and that each request depends on earlier ones only, so that there are no circles."""
    earlier: set[str] = set()
    for index, request in enumerate(requests):
        if request.id.lower() in earlier:
            errors.add(f"requests/{index}/id", f"'{request.id[:80]}' names an earlier request too; case does not count")
        for name in request.depends_on:
            if name.lower() not in earlier:
                member = "dependsOn" if name in (request.depends_on_by_odata or ()) else "depends_on"
                errors.add(f"requests/{index}/{member}", f"'{name[:80]}' is no request before this one")
        earlier.update(request.names)
