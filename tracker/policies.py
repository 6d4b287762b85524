"""How a type's operations are tried: the options that `handles` takes, read into a `Policy`."""

from typing import Literal, TypedDict

from tracker.durations import LONGEST, Duration, rate, seconds
from tracker.errors import ConfigurationError
from tracker.model import Policy


class PolicyOptions(TypedDict, total=False):
    """The options of `handles`. A duration is a text ("250ms", "90s", "1h30m"), a number of seconds, or a timedelta."""

    run_within: Duration
    """The longest time that one attempt may take; default 15 minutes. Then the handler is asked to stop: 408/1."""
    start_within: Duration
    """The longest time from the create to the first attempt; default no limit. Then the operation fails with 408/2, or
    with 501/1 if no worker has its type."""
    attempts: int
    """How many attempts may fail, be lost or exceed `run_within` until the operation fails; default 3."""
    backoff: tuple[Duration, Duration]
    """The longest wait before the second attempt, and the longest wait of all; default ("1s", "60s"). The first value
    doubles with each failure, up to the second. The wait itself is a random part of the value."""
    grace: Duration
    """The time between the request to stop and SIGKILL; default 5 seconds."""
    concurrency: int
    """How many operations of the type run at once at most, over all workers; default no limit."""
    rate: str
    """How many operations of the type start in an interval at most, over all workers: "10/s", "100/m" or "5/30s";
    default no limit."""
    per_call: Literal["serial"]
    """With "serial" a call's operations of serial types run one at a time, in the order of their creation; default any
    order."""
    priority: Literal["high", "default", "low"]
    """The queue that the operation waits in; default "default". In ten turns, "high" comes first in five, "default" in
    four and "low" in one, so that no queue starves."""


def read_policy(name: str, options: PolicyOptions) -> Policy:
    """The policy of the type of that name. Raises ConfigurationError naming an option that cannot be."""
    default = Policy()
    unknown = set(options) - PolicyOptions.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"{name}: no such option: {', '.join(sorted(unknown))}")
    first, cap = options.get("backoff", (default.backoff_first, default.backoff_cap))
    count, per = rate(options["rate"]) if "rate" in options else (0, 0.0)
    _span(name, "rate", per, least=0.0)
    policy = Policy(
        attempts=options.get("attempts", default.attempts),
        run_within=_span(name, "run_within", options.get("run_within", default.run_within)),
        start_within=_span(name, "start_within", options["start_within"]) if "start_within" in options else 0.0,
        grace=_span(name, "grace", options.get("grace", default.grace), least=0.0),
        backoff_first=_span(name, "backoff", first, least=0.0),
        backoff_cap=_span(name, "backoff", cap, least=0.0),
        concurrency=options.get("concurrency", 0),
        rate=count,
        per=per,
        serial=options.get("per_call") == "serial",
        priority=options.get("priority", default.priority),
    )
    _check(name, options, policy)
    return policy


def _check(name: str, options: PolicyOptions, policy: Policy) -> None:
    if policy.attempts < 1:
        raise ConfigurationError(f"{name}: attempts must be at least 1")
    if "concurrency" in options and policy.concurrency < 1:
        raise ConfigurationError(f"{name}: concurrency must be at least 1")
    if options.get("per_call", "serial") != "serial":
        raise ConfigurationError(f"{name}: per_call can be 'serial', not {options['per_call']!r}")
    if policy.priority not in {"high", "default", "low"}:
        raise ConfigurationError(f"{name}: priority can be 'high', 'default' or 'low', not {policy.priority!r}")


def _span(name: str, option: str, value: Duration, *, least: float | None = None) -> float:
    length = seconds(value)
    if not 0 <= length <= LONGEST or (least is None and length == 0):
        raise ConfigurationError(
            f"{name}: {option} must be {'more than 0' if least is None else 'at least 0'}, and at most ten years"
        )
    return length
