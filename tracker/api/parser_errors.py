"""Errors of aiohttp's parser as responses: a target or header fields that are too long, and bytes that are not HTTP."""

import re
from http import HTTPStatus
from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from tracker.api.lengths import FIELD_TOO_LONG, LONGEST_TARGET, TARGET_TOO_LONG, TOO_MANY_FIELDS

_TOO_MANY: Final = "Too many headers received"
"""The message of aiohttp's error, which has no class of its own."""
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:(?!//)")


def parser_error(error: BaseException | None) -> tuple[HTTPStatus, str]:
    """Status and message of an error of aiohttp's parser."""
    match error:
        case LineTooLong():
            if _is_target(*error.args[:2]):
                return HTTPStatus.REQUEST_URI_TOO_LONG, TARGET_TOO_LONG
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, FIELD_TOO_LONG
        case BadHttpMessage(message=message) if message == _TOO_MANY:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_MANY_FIELDS
        case _:
            return HTTPStatus.BAD_REQUEST, "The request is not valid HTTP."


def _is_target(line: object, limit: object) -> bool:
    """Whether the line that is too long is the request line.

    The parser in C compares a target with LONGEST_TARGET, and a field with LONGEST_FIELD. The parser in Python does so
    for complete lines. It compares an incomplete line with LONGEST_TARGET, also when the line is a field.
    """
    return limit == LONGEST_TARGET and not (isinstance(line, bytes) and _FIELD.match(line))
