"""Errors of Redis: which of them mean that the server serves no call now, and what they tell people.

An error has a code, its first word. Most codes are about the server: `LOADING`, `MISCONF`, `MOVED`, and codes that this
service does not know. They count as an outage. Few codes are about a call: `ERR`, for example, has many causes.
"""

import re
import time
from typing import Final

import structlog
from redis import exceptions as redis_errors

from tracker.errors import Unavailable
from tracker.store.permissions import is_refusal

log = structlog.get_logger()

AWAY: Final = (
    *(redis_errors.ConnectionError, redis_errors.TimeoutError, TimeoutError, OSError),
    redis_errors.InvalidResponse,
)
"""Errors of a connection. InvalidResponse: what answers is no Redis server, or speaks TLS."""
_OF_A_CALL: Final = frozenset({"ERR", "WRONGTYPE", "NOSCRIPT", "EXECABORT"})
"""Codes of errors that may be the fault of the call."""
_CODE: Final = re.compile(r"[A-Z]{3,}(?= )")


REPORT_AGAIN_AFTER: Final = 60.0
"""Seconds after which the same refusal is logged again. Every call may be refused."""
_MOST_REPORTED: Final = 100
_reported: dict[str, float] = {}
"""When a refusal was logged, by its text, in seconds of the monotonic clock."""


class StoreFull(Unavailable):
    """The server has reached its `maxmemory`."""


def code_of(error: redis_errors.ResponseError) -> str:
    """The code of an error reply. redis-py leaves it out of the text if it knows the code."""
    found = _CODE.match(str(error))
    return error.status_code or (found[0] if found else "ERR")


def _report_refusal(reason: str) -> None:
    now = time.monotonic()
    if now - _reported.get(reason, -REPORT_AGAIN_AFTER) < REPORT_AGAIN_AFTER:
        return
    if len(_reported) >= _MOST_REPORTED:
        _reported.clear()
    _reported[reason] = now
    log.error("store_refuses", reason=reason, advice="Give the user of REDIS_URL this permission.")


def as_unavailable(error: Exception) -> Unavailable | None:
    """The error to raise if the server serves no such call now. None: the call may be at fault."""
    if isinstance(error, redis_errors.OutOfMemoryError):
        return StoreFull("The store is full (maxmemory is reached): it can be read, and takes no new data.")
    if isinstance(error, AWAY):
        return Unavailable("The store is not reachable at the moment.")
    if is_refusal(error):
        _report_refusal(str(error))
        return Unavailable("The store refuses this to the service. The service's log says what it refuses.")
    if isinstance(error, redis_errors.ResponseError) and (code := code_of(error)) not in _OF_A_CALL:
        return Unavailable(f"The store does not accept this at the moment ({code}).")
    return None
