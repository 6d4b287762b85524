"""Outcomes of attempts: what a handler did, or how its process died.

`handler_outcome` makes most outcomes, in the host, and `frames` carries them to the manager. The manager itself makes
`Died` when a host died, `Stopped` when it ends an attempt without waiting for the handler, and `Unusable` when it
cannot read what a host sent. `completion` decides which change of the record an outcome means.

All have `members`, the result members that the handler set, and `peak_rss`, the largest memory of the host so far in
bytes. `peak_rss` is None for a host of coroutines, because many attempts share its memory.

The classes are NamedTuples, where frozen dataclasses would be usual. A dataclass takes 1 µs more to build, and each
attempt builds its outcome twice (benchmarks/workers.py, tracker, noop).
"""

from typing import NamedTuple

from tracker.domain.operation import Json, ResultInfo


class Succeeded(NamedTuple):
    """The handler returned."""

    result: ResultInfo
    members: Json
    peak_rss: int | None = None


class Rejected(NamedTuple):
    """The handler raised `tracker.Rejected`: it does not accept the operation's input."""

    result: ResultInfo
    members: Json
    peak_rss: int | None = None


class RetryRequested(NamedTuple):
    """The handler raised `tracker.Retry`.

    `after` is the time until the next attempt, in seconds. None stands for the backoff of the operation's policy.
    `result` becomes the operation's result if no attempt is left.
    """

    result: ResultInfo
    members: Json
    after: float | None
    peak_rss: int | None = None


class Raised(NamedTuple):
    """The handler raised another exception, or returned what is no result.

    `retryable` is False when the type's `retry_on` or `never_retry` rules another attempt out. `traceback` is for the
    log.
    """

    result: ResultInfo
    members: Json
    retryable: bool
    traceback: str
    peak_rss: int | None = None


class Stopped(NamedTuple):
    """The handler ended because it was asked to, or the attempt ended without waiting for it."""

    members: Json
    peak_rss: int | None = None


class Died(NamedTuple):
    """The host died while the handler ran.

    `exit_code` is the host's exit code, or minus the number of the signal that killed it. `hint` says what the cause
    may be, if there is a sign of it.
    """

    members: Json
    peak_rss: int | None
    exit_code: int
    hint: str | None = None


class Unusable(NamedTuple):
    """The host sent an outcome that the manager cannot read; `error` says why."""

    members: Json
    peak_rss: int | None
    error: Exception


Outcome = Succeeded | Rejected | RetryRequested | Raised | Stopped | Died | Unusable
