"""Request bodies: strict JSON objects. Only their JSON is checked here; the service checks the members."""

import asyncio
import json
import math
import re
import sys
from collections import Counter
from typing import Any, Final, NoReturn

from aiohttp import web
from aiohttp.hdrs import CONTENT_ENCODING, CONTENT_TYPE
from aiohttp.streams import EmptyStreamReader

from tracker.api.answers import BUDGETS, PATIENCE
from tracker.api.body_errors import BodyError, BodyTimeoutError
from tracker.api.content_encoding import ENCODING_NEEDED, decompress, is_readable_encoding
from tracker.api.headers import JSON_NEEDED, is_json, single
from tracker.domain.operation import Json
from tracker.errors import Invalid, PayloadTooLarge, TimedOut, UnsupportedMediaType
from tracker.json_codec import depth
from tracker.service import Caller

PARSED_AT_ONCE: Final = 32 * 1024
"""How many bytes a body has at most that is parsed on the event loop."""
DEPTH_LIMIT: Final = 64
"""How many levels objects and arrays nest at most."""

_BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class ParsedBody(EmptyStreamReader):
    """The body of a request in a batch, which was parsed with the batch's own body."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value

    def take(self) -> Any:
        """The body's value, which can be taken once. So no value is in memory while its request waits."""
        value, self._value = self._value, None
        return value


async def read_object(request: web.Request, caller: Caller, *, deeper: int = 0) -> Json:
    """Read the body as one JSON object, which may nest DEPTH_LIMIT and `deeper` levels.

    Raises UnsupportedMediaType and Invalid. Raises PayloadTooLarge also for a small body that is large decompressed.
    """
    if not is_json(single(request.headers, CONTENT_TYPE) or ""):
        raise UnsupportedMediaType(JSON_NEEDED)
    if isinstance(request.content, ParsedBody):
        return _object_only(request.content.take())
    return await _parsed(request, caller, await _read(request), deepest=DEPTH_LIMIT + deeper)


async def read_optional_object(request: web.Request, caller: Caller) -> Json:
    """Read the body as `read_object` does. No body, of any Content-Type, is an empty object."""
    if not request.body_exists:
        return {}
    if isinstance(request.content, ParsedBody):
        return await read_object(request, caller)
    body = await _read(request)
    if not body:
        return {}
    if not is_json(single(request.headers, CONTENT_TYPE) or ""):
        raise UnsupportedMediaType(JSON_NEEDED)
    return await _parsed(request, caller, body, deepest=DEPTH_LIMIT)


async def _parsed(request: web.Request, caller: Caller, body: bytes, *, deepest: int) -> Json:
    """Parse a body. A large one is parsed in a thread, because that can take half a second. Tenants take turns."""
    if len(body) <= PARSED_AT_ONCE:
        return parse_object(body, deepest=deepest)
    turns = request.app[BUDGETS].parsed_bodies
    async with turns.acquired(caller.tenant, "Too many large bodies arrive; try again.", within=PATIENCE):
        return await asyncio.to_thread(parse_object, body, deepest=deepest)


def parse_object(body: bytes, *, deepest: int = DEPTH_LIMIT) -> Json:
    """Parse one JSON object in UTF-8, with or without a byte order mark. Raises Invalid with the position or cause."""
    try:
        text = body.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: byte {error.start} is wrong.") from None
    if not text.strip():
        raise Invalid("The body is empty; send a JSON object.")
    value = _object_only(_parse(text, deepest))
    if _SURROGATE_ESCAPE.search(text):
        _refuse_lone_surrogates(value)
    return value


def _object_only(value: Any) -> Json:
    if not isinstance(value, dict):
        raise Invalid("The body must be a JSON object.")
    return value


async def _read(request: web.Request) -> bytes:
    encoding = ", ".join(request.headers.getall(CONTENT_ENCODING, ()))
    if encoding and not is_readable_encoding(encoding):
        raise UnsupportedMediaType(ENCODING_NEEDED)
    content, most = request.content, request.client_max_size
    if (request.content_length or 0) > most:
        raise _too_large(most)
    # Most bodies have arrived with their headers. Plain code would read these by `request.read()`, too, which resumes
    # the parser and the transport. That costs 2 % of the instructions of a create (benchmarks.api: create).
    is_here = content.is_eof() and content.exception() is None
    try:
        body = content.read_nowait() if is_here else await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(most) from None
    except BodyTimeoutError as error:
        raise TimedOut(str(error)) from None
    except BodyError as error:
        raise Invalid(str(error)) from None
    except (web.RequestPayloadError, ConnectionError):
        raise Invalid("The body ended early.") from None
    if len(body) > most:
        raise _too_large(most)
    return await decompress(body, encoding, most=most) if encoding else body


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body has more than {most} bytes.")


def _parse(text: str, deepest: int) -> Any:
    try:
        value = _DECODER.decode(text)
    except RecursionError:  # the decoder's own limit, which is far above ours
        raise _too_deep(deepest) from None
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise Invalid(f"The body is not JSON: {error.msg} at {position}.") from None
    except ValueError:  # Python's limit for integers, whose conversion takes quadratic time
        raise Invalid(f"A number has more than {sys.get_int_max_str_digits()} digits.") from None
    if depth(value) > deepest:
        raise _too_deep(deepest)
    return value


def _too_deep(deepest: int) -> Invalid:
    return Invalid(f"The body nests deeper than {deepest} levels.")


def _object(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise Invalid(f"The member {_quoted(twice)} is there twice.", target=twice)
    return members


def _refuse_constant(word: str) -> NoReturn:
    raise Invalid(f"{word} is not JSON.")


def _number(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise Invalid(f"The number {literal[:40]} is too large.")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_number)
"""orjson is faster, but does not report a member that is there twice."""


def _refuse_lone_surrogates(value: Any, position: tuple[str | int, ...] = ()) -> None:
    """Refuse half of a surrogate pair in any string: it cannot be written as UTF-8."""
    match value:
        case str():
            if not _is_encodable(value):
                path = _path(position)
                raise Invalid(f"{path}: a string holds half of a surrogate pair.", target=path)
        case list():
            for index, item in enumerate(value):
                _refuse_lone_surrogates(item, (*position, index))
        case dict():
            for name, item in value.items():
                if not _is_encodable(name):
                    raise Invalid(f"The member name {_quoted(name)} holds half of a surrogate pair.")
                _refuse_lone_surrogates(item, (*position, name))


def _path(position: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f"/{part}" for part in position).removeprefix("/")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str) -> str:
    return json.dumps(text[:80])
