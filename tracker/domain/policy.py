"""How a type's operations are tried: the options that `handles` takes, read into a `Policy`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from tracker.domain.operation import CANCELED, ResultInfo
from tracker.durations import LONGEST, Duration, rate, seconds
from tracker.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Policy:
    """How an operation is tried, resolved at create and stored: a later deploy does not change it.

    Durations are in seconds; 0 stands for "without limit". These defaults are part of the stored form, which
    leaves them out, so they never change: another default belongs into `handles`.
    """

    attempts: int = 3
    run_within: float = 900.0
    start_within: float = 0.0
    grace: float = 5.0
    backoff_first: float = 1.0
    backoff_cap: float = 60.0
    concurrency: int = 0
    rate: int = 0
    per: float = 0.0
    serial: bool = False
    priority: str = "default"
    retention: float = 604_800.0
    tombstone: float = 604_800.0
    canceled: ResultInfo = CANCELED
    canceled_members: Mapping[str, Any] = field(default_factory=dict)


class PolicyOptions(TypedDict, total=False):
    """The options of `handles`. Durations are "250ms", "90s", "1h30m", seconds, or a timedelta."""

    run_within: Duration
    """How long one attempt may take (15m). Then the handler is asked to stop, and stopped after `grace`: 408/1."""
    start_within: Duration
    """How long the first attempt may be in coming (without limit): 408/2, or 501/1 if no worker has the type."""
    attempts: int
    """How many attempts may fail, be lost or time out before the operation does (3)."""
    backoff: tuple[Duration, Duration]
    """The longest wait before the second attempt, which each failure doubles, and its cap (1s, 60s); full jitter."""
    grace: Duration
    """What a handler that is asked to stop has until it is killed (5s)."""
    concurrency: int
    """How many of the type run at once, over all workers (without limit)."""
    rate: str
    """How many of the type start per interval, over all workers: "10/s", "100/m", "5/30s" (without limit)."""
    per_call: Literal["serial"]
    """The call's operations of serial types run one at a time, in the order in which they were created."""
    priority: Literal["high", "default", "low"]
    """The lane it waits in. Of ten turns, five are the high lane's first, four the default's and one the low's."""


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
