"""Every deliberate error, in one tree.

TrackerError
├── Invalid                 the caller's input is wrong (badRequest)
├── Unauthorized            no token, or an unknown one (unauthorized)
├── NotFound                nothing of that name in the caller's tenant (notFound)
│   └── Gone                it was there; its tombstone still is (gone)
├── Conflict                the record is not as the caller saw it (conflict)
│   ├── Refused             a worker's fence: the attempt or ticket is not the current one (conflict)
│   └── Reused              a request's name is another request's (conflict, or badRequest where the header says so)
├── PreconditionFailed      If-Match names another revision (preconditionFailed)
├── PreconditionRequired    If-Match is asked for, and missing (preconditionRequired)
├── PayloadTooLarge         a body over the limit (payloadTooLarge)
├── UnsupportedMediaType    a body that is not JSON (unsupportedMediaType)
├── FailedDependency        a request of a batch that it depends on has failed (failedDependency)
├── NotSupported            a documented query form that is not served (notImplemented)
├── Unavailable             Redis is away or a bound is reached; try again (serviceUnavailable)
├── IllegalTransition       no such transition in the lifecycle: a bug of ours (internalServerError)
└── ConfigurationError      a setting, a type's declaration or a server is not usable (internalServerError)

`code` is Graph's word for the HTTP status, in lower camel case; `tracker.api.error_responses` maps classes to statuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final


@dataclass(frozen=True, slots=True)
class Detail:
    """One finding of several: which member (`target`, a JSON path) and what is wrong with it."""

    code: str
    message: str
    target: str | None = None


class TrackerError(Exception):
    """A deliberate error: `message` is for the caller, and never holds secrets or stack text."""

    code: ClassVar[str] = "internalServerError"

    def __init__(self, message: str, *, target: str | None = None, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        self.details = tuple(details)


class Invalid(TrackerError):
    """The caller's input is wrong; `target` and `details` name the members."""

    code = "badRequest"


class Unauthorized(TrackerError):
    """The request carries no bearer token, or one that is not known."""

    code = "unauthorized"


class NotFound(TrackerError):
    """Nothing of that name exists in the caller's tenant."""

    code = "notFound"


class Gone(NotFound):
    """The operation was deleted or its retention ended; its tombstone remains for a while."""

    code = "gone"


class Conflict(TrackerError):
    """The record is not as the caller saw it, or a name is taken."""

    code = "conflict"


class Refused(Conflict):
    """The fence: a ticket or an attempt that is not the current one tried to write."""


class Reused(Conflict):
    """A client gave a request the name of another one: the same idempotency key, not the same body."""


class PreconditionFailed(TrackerError):
    """`If-Match` names a revision that is not the current one (RFC 9110, 13.1.1)."""

    code = "preconditionFailed"


class PreconditionRequired(TrackerError):
    """A change without `If-Match`, where the setting asks for it (RFC 6585, 3)."""

    code = "preconditionRequired"


class PayloadTooLarge(TrackerError):
    """The body is over the limit."""

    code = "payloadTooLarge"


class UnsupportedMediaType(TrackerError):
    """The body is not `application/json`."""

    code = "unsupportedMediaType"


class FailedDependency(TrackerError):
    """A request of a batch was not run, because one that it depends on has failed (RFC 4918, 11.4)."""

    code = "failedDependency"


class NotSupported(TrackerError):
    """A query option or form that is documented as not supported (OData 11.2.1: 501)."""

    code = "notImplemented"


class Unavailable(TrackerError):
    """Redis is away or a bound is reached. `retry_after` is in whole seconds, at least 1."""

    code = "serviceUnavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, retry_after)


class IllegalTransition(TrackerError):
    """A change that the table of transitions does not have: a bug, never the caller's doing."""


class ConfigurationError(TrackerError):
    """A setting, a type's declaration or the Redis server is not usable as it is."""

    exit_code: ClassVar[int] = 2
    """With which a process ends that another try would not help; its keeper then gives up too."""


_CODES_OF_STATUSES: Final = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payloadTooLarge"}
"""Where Graph's word is not the status's name, which here also differs between Python versions."""


def status_word(status: int) -> str:
    """Name a status: "notFound" for 404; the digits themselves for a number that HTTP does not name."""
    try:
        known = HTTPStatus(status)
    except ValueError:
        return str(status)
    first, *others = known.name.lower().split("_")
    return _CODES_OF_STATUSES.get(known) or first + "".join(word.capitalize() for word in others)
