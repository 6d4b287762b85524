"""Parsers of request headers.

`lru_cache` is there for speed, because clients send the same values again and again. Without the caches, a create and a
read cost 9 % more instructions of the server (benchmarks.api: create, read one).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from aiohttp import web
from multidict import CIMultiDictProxy, istr

from tracker.errors import Invalid

JSON_NEEDED: Final = "Send the body with Content-Type: application/json, in UTF-8."

ODATA_VERSION: Final = istr("OData-Version")
ODATA_MAX_VERSION: Final = istr("OData-MaxVersion")

LONGEST_HEADER: Final = 8190
"""How many characters all lines of one header have together at most, as one line of aiohttp's parser."""

_CACHED_VALUES: Final = 256
_LONGEST_CACHED: Final = 256
"""How many characters a value has at most that is cached, so that the size of the caches is bounded."""
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MEDIA_TYPE: Final = re.compile(rf"{_TOKEN.pattern}/{_TOKEN.pattern}")
_CLIENT_ID: Final = re.compile(r"[!-~]{1,128}")
_VERSION: Final = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def is_json(content_type: str) -> bool:
    """Whether a Content-Type names JSON in UTF-8, with any OData parameters."""
    return _is_json_cached(content_type) if len(content_type) <= _LONGEST_CACHED else _is_json(content_type)


def _is_json(content_type: str) -> bool:
    name, *parameters = _split(content_type, ";")
    if name.lower() != "application/json":
        return False
    charset = _parameters(parameters).get("charset", "utf-8")
    return charset.lower() in {"utf-8", "utf8", "us-ascii"}


_is_json_cached: Final = lru_cache(_CACHED_VALUES)(_is_json)


def lines_of(headers: "CIMultiDictProxy[str]", name: str) -> Sequence[str]:
    """The lines of a header. Raises HTTPRequestHeaderFieldsTooLarge if they are too long together."""
    lines = headers.getall(name, ())
    if len(lines) > 1 and sum(map(len, lines)) > LONGEST_HEADER:
        message = f"The lines of the header {name} have more than {LONGEST_HEADER} characters together."
        raise web.HTTPRequestHeaderFieldsTooLarge(text=message)
    return lines


def joined(headers: "CIMultiDictProxy[str]", name: str) -> str:
    """The lines of a header, joined by commas (RFC 9110, 5.3). Raises like `lines_of`."""
    return ", ".join(lines_of(headers, name))


def accepts(accept: str, wanted: str) -> bool:
    """Whether an Accept header allows a media type: not if it names other types only, or the media type with q=0.

    A malformed entry is ignored, and a header without any valid entry allows everything.
    """
    return _accepts_cached(accept, wanted) if len(accept) <= _LONGEST_CACHED else _accepts(accept, wanted)


def _accepts(accept: str, wanted: str) -> bool:
    qualities: dict[str, float] = {}
    for entry in _split(accept, ","):
        media_type, *parameters = _split(entry, ";")
        if _MEDIA_TYPE.fullmatch(media_type):
            name = media_type.lower()
            qualities[name] = max(qualities.get(name, 0.0), _quality(_parameters(parameters)))
    if not qualities:
        return True
    ranges = (wanted, f"{wanted.partition('/')[0]}/*", "*/*")  # the most specific first
    return next((qualities[name] for name in ranges if name in qualities), 0.0) > 0


_accepts_cached: Final = lru_cache(_CACHED_VALUES)(_accepts)


def odata_version(max_version: str) -> str:
    """The OData version of the response: 4.0, or 4.01 if `OData-MaxVersion` allows it."""
    return "4.01" if _VERSION.fullmatch(max_version) and float(max_version) >= 4.01 else "4.0"  # noqa: PLR2004 - a version


def check_odata_versions(version: str | None, max_version: str | None) -> None:
    """Check that a request's versions can be served (OData 4.01, part 1, 8.1.5 and 8.2.7). Raises Invalid."""
    if version is not None and version.strip() not in {"4.0", "4.01"}:
        raise Invalid("OData-Version must be 4.0 or 4.01.", target="OData-Version")
    if max_version is not None and not (_VERSION.fullmatch(max_version.strip()) and float(max_version) >= 4):  # noqa: PLR2004 - a version
        raise Invalid("OData-MaxVersion must be 4.0 or higher.", target="OData-MaxVersion")


def client_request_id(value: str | None) -> str | None:
    """The client's id of its request, if it can be sent back: 1 to 128 visible ASCII characters."""
    return value if value is not None and _CLIENT_ID.fullmatch(value) else None


def preferences(header: Sequence[str]) -> Mapping[str, str]:
    """The preferences of a `Prefer` header, given as its lines, by lower-case name (RFC 7240).

    A malformed preference is ignored. The first of several with the same name counts.
    """
    found: dict[str, str] = {}
    for line in header:
        for preference in _split(line, ","):
            name, _, value = _split(preference, ";")[0].partition("=")
            if _TOKEN.fullmatch(name.strip()):
                found.setdefault(name.strip().lower(), _unquoted(value.strip()))
    return MappingProxyType(found)


def forwarded(header: Sequence[str]) -> Mapping[str, str]:
    """The parameters of the last element of a `Forwarded` header, given as its lines, by lower-case name (RFC 7239)."""
    return MappingProxyType(_parameters(_split(_split(header[-1], ",")[-1], ";")) if header else {})


def single(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """The value of a header that is no list; None if it was not sent. Raises Invalid if it was sent twice.

    A proxy may decide by the other line than this server does (RFC 9110, 5.3).
    """
    lines = headers.getall(name, ())
    if len(lines) > 1:
        raise Invalid(f"Send one {name} header, not {len(lines)}.", target=name)
    return lines[0] if lines else None


def whole_number(text: str | None) -> int | None:
    """The value of one to nine ASCII digits; None for any other text."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:  # noqa: PLR2004 - see above
        return None
    return int(text)


def _quality(parameters: Mapping[str, str]) -> float:
    text = parameters.get("q", "1")
    return float(text) if _QUALITY.fullmatch(text) else 1.0


def _parameters(parameters: Sequence[str]) -> dict[str, str]:
    pairs = (parameter.partition("=") for parameter in parameters)
    return {name.strip().lower(): _unquoted(value.strip()) for name, _, value in pairs}


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _split(text: str, separator: str) -> list[str]:
    """Split a header's value at separators outside quotes, and strip the parts."""
    if '"' not in text:  # for speed: a client may send thousands of characters
        return [part.strip() for part in text.split(separator)]
    parts, start, quoted, escaped = [], 0, False, False
    for index, letter in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter == separator and not quoted:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]
