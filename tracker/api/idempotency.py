"""Headers by which a client names its create, so that it may send it again: three spellings, one meaning.

`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), `Repeatability-Request-ID` with
`Repeatability-First-Sent` (OASIS Repeatable Requests 1.0), `Operation-Id` (Azure's guidelines).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from aiohttp import web

from tracker.errors import Conflict, Invalid, PreconditionFailed, TrackerError, Unavailable
from tracker.service import ONCE_MARGIN

KEY: Final = "Idempotency-Key"
REQUEST_ID: Final = "Repeatability-Request-ID"
FIRST_SENT: Final = "Repeatability-First-Sent"
OPERATION_ID: Final = "Operation-Id"
RESULT: Final = "Repeatability-Result"
AHEAD: Final = timedelta(seconds=ONCE_MARGIN)
"""How far a client's clock may be ahead of ours."""

_NAME: Final = re.compile(r"[!-~]{1,255}")
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_OUTCOME: Final = web.RequestKey("repeatability", str)


def name_of(request: web.Request, *, remembered: float) -> str:
    """How the client names its request; "" when it does not. `remembered` is in seconds.

    Raises Invalid for a name that is malformed, incomplete or there twice, and PreconditionFailed for a
    `Repeatability-First-Sent` from before what is remembered.
    """
    headers = request.headers
    found = [name for name in (KEY, REQUEST_ID, OPERATION_ID) if name in headers]
    if FIRST_SENT in headers or REQUEST_ID in found:
        request[_OUTCOME] = "rejected"
        _check_first_sent(request, remembered)
    if not found:
        return ""
    values = [value for name in found for value in headers.getall(name)]
    if len(values) > 1:
        raise Invalid(f"Name the request once: {', '.join(found)}.", target=found[0])
    if not _NAME.fullmatch(values[0]):
        raise Invalid(f"{found[0]} must be 1 to 255 visible ASCII characters.", target=found[0])
    if found[0] == REQUEST_ID:
        request[_OUTCOME] = "accepted"
    return f"{found[0]}:{values[0]}"


def refusal(request: web.Request) -> TrackerError:
    """What a name that is another request's is answered: a conflict for Idempotency-Key, else a bad request."""
    if KEY in request.headers:
        return Conflict(f"The {KEY} was sent with another body before.", target=KEY)
    if _OUTCOME not in request:
        return Invalid(f"The {OPERATION_ID} was sent with another body before.", target=OPERATION_ID)
    request[_OUTCOME] = "rejected"
    return Invalid(f"The {REQUEST_ID} was sent with another body before.", target=REQUEST_ID)


def result_headers(request: web.BaseRequest, error: Exception | None = None) -> Mapping[str, str]:
    """What an answer says of the request's repeatability; nothing where it did not ask, or was not decided."""
    outcome = request.get(_OUTCOME)
    return {} if outcome is None or isinstance(error, Unavailable) else {RESULT: outcome}


def _check_first_sent(request: web.Request, remembered: float) -> None:
    if REQUEST_ID not in request.headers or FIRST_SENT not in request.headers:
        raise Invalid(f"{REQUEST_ID} and {FIRST_SENT} belong together.", target=FIRST_SENT)
    sent = _imf_fixdate(", ".join(request.headers.getall(FIRST_SENT)))
    now = datetime.now(UTC)
    if sent is None or sent - now > AHEAD:
        message = f"{FIRST_SENT} must be a date like Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110, 5.6.7), and not ahead."
        raise Invalid(message, target=FIRST_SENT)
    if now - sent > timedelta(seconds=remembered):
        raise PreconditionFailed(f"{FIRST_SENT} is too long ago: what was sent then is forgotten.", target=FIRST_SENT)


def _imf_fixdate(text: str) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment if format_datetime(moment, usegmt=True) == text else None
    except ValueError:
        return None
