"""Outcomes of attempts: what a handler did, or how its process died.

`handler_outcome` makes most outcomes, in the host, and `frames` carries them to the manager. The manager itself makes
`Died` when a host died, `Stopped` when it ends an attempt without waiting for the handler, and `Unusable` when it
cannot read what a host sent. `completion` decides which change of the record an outcome means.

Each outcome has `members`, the result members that the handler set. Each has `peak_rss`, the largest memory of the host
so far, in bytes. It is None for a host of coroutines, because many attempts share the host's memory.

The classes here and in `frames` are NamedTuples. Plain code would have frozen dataclasses, which cost 8 µs more of the
157 µs of an attempt (benchmarks/workers.py: tracker, noop). NamedTuples of different classes are equal when their
fields are. So use class patterns to tell outcomes apart, and not comparison.
"""

from typing import NamedTuple

from tracker.domain.operation import Json, ResultInfo


class Succeeded(NamedTuple):
    """The handler returned."""

    result: ResultInfo
    members: Json
    peak_rss: int | None = None


class Rejected(NamedTuple):
    """The handler raised `tracker.Rejected`, the exception of the same name: it does not accept the input."""

    result: ResultInfo
    members: Json
    peak_rss: int | None = None


class RetryRequested(NamedTuple):
    """The handler raised `tracker.Retry`.

    `after` is the time until the next attempt, in seconds. When it is None, the operation's policy says how long.
    `result` becomes the operation's result if no attempt is left.
    """

    result: ResultInfo
    members: Json
    after: float | None
    peak_rss: int | None = None


class Raised(NamedTuple):
    """The handler raised another exception, or returned a value that is no result.

    `retryable` says whether the type's `retry_on` and `never_retry` allow another attempt. `traceback` is for the log.
    """

    result: ResultInfo
    members: Json
    retryable: bool
    traceback: str
    peak_rss: int | None = None


class Stopped(NamedTuple):
    """The handler ended because the host asked it to, or the manager ended the attempt without the handler."""

    members: Json
    peak_rss: int | None = None


class Died(NamedTuple):
    """The host died while the handler ran.

    `exit_code` is the host's exit code, or minus the number of the signal that killed it. `hint` says that the cause
    may be a lack of memory, if it may. `proven` says whether the handler was the only one that the host ever began.
    """

    members: Json
    peak_rss: int | None
    exit_code: int
    hint: str | None = None
    proven: bool = False


class Unusable(NamedTuple):
    """The host sent an outcome that the manager cannot read; `error` says why."""

    members: Json
    peak_rss: int | None
    error: Exception


Outcome = Succeeded | Rejected | RetryRequested | Raised | Stopped | Died | Unusable
