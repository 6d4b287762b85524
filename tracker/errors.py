"""The tree of errors that become an HTTP response or an exit code.

A module defines further subclasses itself when no other module raises them.

TrackerError
├── Invalid                 the caller's input is wrong (badRequest)
├── Unauthorized            no token, or an unknown one (unauthorized)
├── Forbidden               the caller may not do this (forbidden)
├── NotFound                nothing of that name in the caller's tenant (notFound)
│   └── Gone                the operation was deleted or has expired; its tombstone is left (gone)
├── Conflict                the record is not as the caller saw it (conflict)
│   ├── Refused             the fence: the attempt or ticket is not the current one (conflict)
│   └── Reused              an idempotency key was used for another request (conflict or badRequest, by the header)
├── PreconditionFailed      If-Match names another revision (preconditionFailed)
├── PreconditionRequired    If-Match is missing, and the settings demand it (preconditionRequired)
├── TimedOut                the request arrived too slowly (requestTimeout)
├── PayloadTooLarge         a body over the limit (payloadTooLarge)
├── UnsupportedMediaType    a body that is not JSON (unsupportedMediaType)
├── UriTooLong              the path and query of a request are over the limit (uriTooLong)
├── HeaderFieldsTooLarge    a header field is over the limit, or there are too many (requestHeaderFieldsTooLarge)
├── FailedDependency        a request of the batch that this one depends on has failed (failedDependency)
├── NotSupported            a form of a query that the documentation says is missing here (notImplemented)
├── TooManyRequests         the client must slow down (tooManyRequests)
├── Unavailable             Redis is away or a limit is reached; try again (serviceUnavailable)
├── IllegalTransition       the table has no such transition: a bug (internalServerError)
└── ConfigurationError      a setting, a type's declaration or a server is not usable (internalServerError)

`code` is the code of Graph's error body: the name of the HTTP status in lower camel case. `tracker.api.error_responses`
maps classes to statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final


@dataclass(frozen=True, slots=True)
class Detail:
    """One error of several in a request. `target` is the JSON path of the member that is wrong."""

    code: str
    message: str
    target: str | None = None


class TrackerError(Exception):
    """The base of all errors above. `message` is for the caller; it never holds a secret or a traceback.

    `target` names the member or header at fault. `details` lists all errors, when there are several.
    """

    code: ClassVar[str] = "internalServerError"

    def __init__(self, message: str, *, target: str | None = None, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        self.details = tuple(details)


class Invalid(TrackerError):
    """The caller's input is wrong. `target` and `details` name the members."""

    code = "badRequest"


class Unauthorized(TrackerError):
    """The request carries no bearer token, or one that is not known."""

    code = "unauthorized"


class Forbidden(TrackerError):
    """The caller may not do this, whatever token the request carries."""

    code = "forbidden"


class NotFound(TrackerError):
    """The caller's tenant has nothing of that name."""

    code = "notFound"


class Gone(NotFound):
    """The operation was deleted, or its retention has ended. Its tombstone is left for a while."""

    code = "gone"


class Conflict(TrackerError):
    """The record is not as the caller saw it, or a name is taken."""

    code = "conflict"


class Refused(Conflict):
    """The fence refused a write: its ticket or attempt is not the current one."""


class Reused(Conflict):
    """An idempotency key was used before, with another body."""


class PreconditionFailed(TrackerError):
    """`If-Match` names a revision that is not the current one (RFC 9110, 13.1.1)."""

    code = "preconditionFailed"


class PreconditionRequired(TrackerError):
    """A change came without `If-Match`, and the settings demand it (RFC 6585, 3)."""

    code = "preconditionRequired"


class TimedOut(TrackerError):
    """The request did not arrive in time (RFC 9110, 15.5.9)."""

    code = "requestTimeout"


class PayloadTooLarge(TrackerError):
    """The body is larger than the limit."""

    code = "payloadTooLarge"


class UnsupportedMediaType(TrackerError):
    """The body is not `application/json`."""

    code = "unsupportedMediaType"


class UriTooLong(TrackerError):
    """The path and query of a request are longer than the limit."""

    code = "uriTooLong"


class HeaderFieldsTooLarge(TrackerError):
    """A header field of a request is longer than the limit, or the request has too many (RFC 6585, 5)."""

    code = "requestHeaderFieldsTooLarge"


class FailedDependency(TrackerError):
    """A request of a batch was not run, because a request that it depends on has failed (RFC 4918, 11.4)."""

    code = "failedDependency"


class NotSupported(TrackerError):
    """A query option or form is documented as not supported (OData 4.01, part 1, 11.2.1: 501)."""

    code = "notImplemented"


class TooManyRequests(TrackerError):
    """The client has to slow down. `retry_after`: when to try again, in whole seconds, at least 1."""

    code = "tooManyRequests"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, retry_after)


class Unavailable(TrackerError):
    """Redis is away, or a limit is reached. `retry_after`: when to try again, in whole seconds, at least 1."""

    code = "serviceUnavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, retry_after)


class IllegalTransition(TrackerError):
    """The table of transitions does not have this change.

    That is a bug of this service, never a mistake of the caller.
    """


class ConfigurationError(TrackerError):
    """A setting, the declaration of a type, or the Redis server cannot be used as it is."""

    exit_code: ClassVar[int] = 2
    """The exit code of a process that would fail again in the same way. Its supervisor does not restart it."""


_CODES_OF_STATUSES: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payloadTooLarge",
    HTTPStatus.REQUEST_URI_TOO_LONG: "uriTooLong",
}
"""Statuses whose code in Graph differs from their name in Python. Python 3.13 also renamed these statuses."""


def status_word(status: int) -> str:
    """The code of a status: "notFound" for 404. For a status that HTTP does not name the code is its digits."""
    try:
        known = HTTPStatus(status)
    except ValueError:
        return str(status)
    first, *others = known.name.lower().split("_")
    return _CODES_OF_STATUSES.get(known) or first + "".join(word.capitalize() for word in others)
