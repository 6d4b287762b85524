"""Graph's words for HTTP statuses: the description in lower camel case."""

from http import HTTPStatus
from typing import Final

_EXCEPTIONS: Final = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payloadTooLarge"}
"""Where Graph's word is not the status's name, which here also differs between Python versions."""


def status_word(status: int) -> str:
    """Name a status: "notFound" for 404; the digits themselves for a number that HTTP does not name."""
    try:
        known = HTTPStatus(status)
    except ValueError:
        return str(status)
    first, *others = known.name.lower().split("_")
    return _EXCEPTIONS.get(known) or first + "".join(word.capitalize() for word in others)
