"""Policies: attempts, backoff, time limits, rate limits and priority of the operations of a type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from tracker.domain.operation import CANCELED, ResultInfo
from tracker.durations import LONGEST, Duration, rate, seconds
from tracker.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Policy:
    """How an operation is tried. It is resolved at create and stored: a later deploy does not change it.

    `PolicyOptions` explains each member. Durations are in seconds; 0 means "without limit". At most `rate`
    operations of the type start in `per` seconds. `retention`: how long an operation is kept after its end.
    `tombstone`: how long its id is kept after that, to answer 410 instead of 404.

    A stored policy leaves out members that have these defaults. So these defaults must never change. A new default is
    set in `handles` instead.
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
    rerun_unproven: bool = True


class PolicyOptions(TypedDict, total=False):
    """The options of `handles`.

    A duration is a text such as "250ms", "90s" or "1h30m", a number of seconds, or a timedelta.
    """

    run_within: Duration
    """The longest time that one attempt may take. Default: 15 minutes.

    Then the handler is asked to stop, and is ended by force after `grace`. The attempt fails with the result 408/1
    (code and subcode).
    """
    start_within: Duration
    """The longest time from create to the first attempt. Default: no limit.

    Then the operation fails with 408/2, or with 501/1 if no worker had its type.
    """
    attempts: int
    """How many attempts may be charged at most: attempts that fail, time out, or end their process. Default: 3.

    An attempt that dies is not charged if the cause may be another attempt. So an operation may run more often.
    """
    rerun_unproven: bool
    """Whether an operation runs again after its process or its worker died. Default: True.

    With False, the operation fails at once with 503/1, also if another operation was the cause. It can still run again
    after an exception, a time-out or a drain.
    """
    backoff: tuple[Duration, Duration]
    """The longest wait before the second attempt, and the longest wait before any attempt. Default: 1 s and 60 s.

    Each failure doubles the longest wait, up to the second value. The real wait is random between 0 and the longest
    (full jitter).
    """
    grace: Duration
    """The time between the request to stop and SIGKILL. Default: 5 s."""
    concurrency: int
    """How many operations of the type run at once at most, over all workers. Default: no limit."""
    rate: str
    """How many operations of the type start per interval at most, over all workers: "10/s", "100/m", "5/30s".

    Default: no limit.
    """
    per_call: Literal["serial"]
    """With "serial", operations of one call wait for each other: one runs at a time, in the order of their creation.

    Operations of all types with this option wait together. Default: operations of a call run at the same time.
    """
    priority: Literal["high", "default", "low"]
    """The lane in which operations of the type wait. Default: "default".

    A worker looks into the high lane first for five of ten tickets, into the default lane first for four, and into the
    low lane first for one. When that lane is empty, the worker looks into the others.
    """


def read_policy(name: str, options: PolicyOptions) -> Policy:
    """Read the options of the type `name` into its policy.

    Raises ConfigurationError that names an unknown option, or an option whose value is not possible.
    """
    default = Policy()
    unknown = set(options) - PolicyOptions.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"{name}: no such option: {', '.join(sorted(unknown))}")
    first, cap = options.get("backoff", (default.backoff_first, default.backoff_cap))
    count, per = rate(options["rate"]) if "rate" in options else (0, 0.0)
    _seconds(name, "rate", per, least=0.0)
    policy = Policy(
        attempts=options.get("attempts", default.attempts),
        run_within=_seconds(name, "run_within", options.get("run_within", default.run_within)),
        start_within=_seconds(name, "start_within", options["start_within"]) if "start_within" in options else 0.0,
        grace=_seconds(name, "grace", options.get("grace", default.grace), least=0.0),
        backoff_first=_seconds(name, "backoff", first, least=0.0),
        backoff_cap=_seconds(name, "backoff", cap, least=0.0),
        concurrency=options.get("concurrency", 0),
        rate=count,
        per=per,
        serial=options.get("per_call") == "serial",
        priority=options.get("priority", default.priority),
        rerun_unproven=options.get("rerun_unproven", default.rerun_unproven),
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


def _seconds(name: str, option: str, value: Duration, *, least: float | None = None) -> float:
    length = seconds(value)
    if not 0 <= length <= LONGEST or (least is None and length == 0):
        raise ConfigurationError(
            f"{name}: {option} must be {'more than 0' if least is None else 'at least 0'}, and at most ten years"
        )
    return length
