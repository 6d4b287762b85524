"""Idempotency keys: a client that sends a create again with the same key gets the same operation.

Three headers can have the key: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header),
`Repeatability-Request-ID` with `Repeatability-First-Sent` (OASIS Repeatable Requests 1.0), and `Operation-Id` (Azure's
guidelines).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from aiohttp import web

from tracker.errors import Conflict, Invalid, PreconditionFailed, TrackerError, Unavailable
from tracker.service import IDEMPOTENCY_MARGIN

KEY: Final = "Idempotency-Key"
REQUEST_ID: Final = "Repeatability-Request-ID"
FIRST_SENT: Final = "Repeatability-First-Sent"
OPERATION_ID: Final = "Operation-Id"
RESULT: Final = "Repeatability-Result"
AHEAD: Final = timedelta(seconds=IDEMPOTENCY_MARGIN)
"""The longest time by which a client's clock may be ahead of ours."""

_KEY: Final = re.compile(r"[!-~]{1,255}")
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_RESULT: Final = web.RequestKey("repeatability", str)
"""The `Repeatability-Result` of a request that has the repeatability headers: `accepted` or `rejected`."""


def key_of(request: web.Request, *, remembered: float) -> str:
    """The idempotency key of a request as "header:key"; "" if it has none.

    `remembered` is the time in seconds for which the service remembers keys. Raises Invalid for a key that is
    malformed, incomplete or sent twice, and PreconditionFailed for a `Repeatability-First-Sent` before that time.
    """
    headers = request.headers
    found = [name for name in (KEY, REQUEST_ID, OPERATION_ID) if name in headers]
    if FIRST_SENT in headers or REQUEST_ID in found:
        request[_RESULT] = "rejected"
        _check_first_sent(request, remembered)
    if not found:
        return ""
    values = [value for name in found for value in headers.getall(name)]
    if len(values) > 1:
        raise Invalid(f"Send one idempotency key, not several: {', '.join(found)}.", target=found[0])
    if not _KEY.fullmatch(values[0]):
        raise Invalid(f"{found[0]} must be 1 to 255 visible ASCII characters.", target=found[0])
    if found[0] == REQUEST_ID:
        request[_RESULT] = "accepted"
    return f"{found[0]}:{values[0]}"


def reuse_error(request: web.Request) -> TrackerError:
    """The error for a key that was sent with another body: a conflict for Idempotency-Key, else a bad request."""
    if KEY in request.headers:
        return Conflict(f"The {KEY} was sent with another body before.", target=KEY)
    if _RESULT not in request:
        return Invalid(f"The {OPERATION_ID} was sent with another body before.", target=OPERATION_ID)
    request[_RESULT] = "rejected"
    return Invalid(f"The {REQUEST_ID} was sent with another body before.", target=REQUEST_ID)


def result_headers(request: web.BaseRequest, error: Exception | None = None) -> Mapping[str, str]:
    """The `Repeatability-Result` header of the response, if the request has the repeatability headers.

    It is left out while Redis is away, because then the request is neither accepted nor rejected.
    """
    result = request.get(_RESULT)
    return {} if result is None or isinstance(error, Unavailable) else {RESULT: result}


def _check_first_sent(request: web.Request, remembered: float) -> None:
    if REQUEST_ID not in request.headers or FIRST_SENT not in request.headers:
        raise Invalid(f"Send {REQUEST_ID} and {FIRST_SENT} together.", target=FIRST_SENT)
    sent = _imf_fixdate(", ".join(request.headers.getall(FIRST_SENT)))
    now = datetime.now(UTC)
    if sent is None or sent - now > AHEAD:
        example = "Sun, 06 Nov 1994 08:49:37 GMT"
        message = f"{FIRST_SENT} must be a date like {example} (RFC 9110, 5.6.7), and not in the future."
        raise Invalid(message, target=FIRST_SENT)
    if now - sent > timedelta(seconds=remembered):
        raise PreconditionFailed(f"{FIRST_SENT} is too long ago: keys of that time are forgotten.", target=FIRST_SENT)


def _imf_fixdate(text: str) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment if format_datetime(moment, usegmt=True) == text else None
    except ValueError:
        return None
