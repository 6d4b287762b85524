"""What a `$batch` asks for, in OData's JSON batch format (JSON Format 4.01, 19.1) as Graph's clients write it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tracker.domain.operation import Json
from tracker.errors import Detail, Invalid

MOST_REQUESTS: Final = 20
"""Graph's limit."""
LONGEST_LINE: Final = 8190
"""Characters of a URL or a header's value: what the server takes of a request that comes by itself."""

_NEEDED: Final = ("id", "method", "url")
_SIMPLE: Final = frozenset({*_NEEDED, "headers", "body"})
_DEPENDS_ON: Final = ("dependsOn", "depends_on")
"""OData's name, and what Microsoft's Python client sends."""

_EMPTY_OBJECT: Final = "e30="
"""`{}` in base64: how Microsoft's Python client writes a body that is an empty object."""
_UNSUPPORTED: Final = ("atomicityGroup", "if")

_Places = dict[str, list[int]]
"""Where the request of an id, or those of an atomicity group, stand; by name in lower case."""


class Part(NamedTuple):
    """One request of a batch. `after` are the places of those before it that it depends on."""

    id: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: Any
    after: Sequence[int] = ()
    unsupported: str | None = None
    """A member that asks for what is not done here."""


def read_parts(batch: Json) -> list[Part]:
    """The requests of a batch, in their order. Raises Invalid naming everything that is malformed."""
    requests = batch.get("requests")
    if not isinstance(requests, list) or not requests:
        raise Invalid("requests: must be an array of at least one request", target="requests")
    if len(requests) > MOST_REQUESTS:
        raise Invalid(f"requests: at most {MOST_REQUESTS} in a batch, not {len(requests)}", target="requests")
    parts: list[Part] = []
    places: _Places = {}
    details: list[Detail] = []
    for index, request in enumerate(requests):
        part = _simple(request, places)
        if part is None:
            wrong = list(_misshapen(request)) or list(_misnamed(request, places))
            if wrong:
                details += [Detail("badRequest", message, f"requests/{index}{member}") for member, message in wrong]
                continue
            part = _part(request, places)
        parts.append(part)
        _place(request, index, places)
    if details:
        raise Invalid(f"{details[0].target}: {details[0].message}", target=details[0].target, details=details)
    return parts


def _simple(request: Any, places: _Places) -> Part | None:
    """The request, if it has the members that most have, and no others, as they must be."""
    if not (isinstance(request, dict) and request.keys() <= _SIMPLE):
        return None
    headers = request.get("headers", {})
    if not isinstance(headers, dict):
        return None
    needed = request.get("id"), request.get("method"), request.get("url")
    for value in (*needed, *headers.values()):
        if not (isinstance(value, str) and len(value) <= LONGEST_LINE):
            return None
    return None if "" in needed or request["id"].lower() in places else _plain(request)


def _misshapen(request: Any) -> Iterator[tuple[str, str]]:
    """Members that are missing or of the wrong type, and what they must be."""
    if not isinstance(request, dict):
        yield "", "must be an object"
        return
    for name in _NEEDED:
        if not isinstance(request.get(name), str) or not request[name]:
            yield f"/{name}", "must be a string that is not empty"
    if not isinstance(request.get("atomicityGroup"), str | None):
        yield "/atomicityGroup", "must be a string"
    for name in _DEPENDS_ON:
        value = request.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            yield f"/{name}", "must be an array of strings"
    if isinstance(request.get("url"), str) and len(request["url"]) > LONGEST_LINE:
        yield "/url", f"must have at most {LONGEST_LINE} characters"
    headers = request.get("headers")
    if isinstance(headers, dict) and any(
        isinstance(each, str) and len(each) > LONGEST_LINE for each in headers.values()
    ):
        yield "/headers", f"must have values of at most {LONGEST_LINE} characters"
    if headers is not None and not (
        isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values())
    ):
        yield "/headers", "must be an object of strings"


def _misnamed(request: Json, places: _Places) -> Iterator[tuple[str, str]]:
    """An id that is taken, and dependencies on what does not stand before: so that there are no circles."""
    if request["id"].lower() in places:
        yield "/id", f"'{request['id'][:80]}' is another request's too; case does not count"
    for name, value in _depends_on(request):
        if value.lower() not in places:
            yield f"/{name}", f"'{value[:80]}' is no request before this one"


def _place(request: Json, index: int, places: _Places) -> None:
    places[request["id"].lower()] = [index]
    group = request.get("atomicityGroup")
    if group is not None:
        places.setdefault(group.lower(), []).append(index)


def _part(request: Json, places: _Places) -> Part:
    return _plain(request)._replace(
        after=[place for _, name in _depends_on(request) for place in places[name.lower()]],
        unsupported=next((name for name in _UNSUPPORTED if request.get(name) is not None), None),
    )


def _plain(request: Json) -> Part:
    body = request.get("body")
    return Part(
        request["id"],
        request["method"].upper(),
        request["url"],
        request.get("headers") or {},
        {} if body == _EMPTY_OBJECT else body,
    )


def _depends_on(request: Json) -> Iterator[tuple[str, str]]:
    return ((name, value) for name in _DEPENDS_ON for value in request.get(name) or ())
