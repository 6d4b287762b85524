"""The options of `handles`, and durations and rates as people write them."""

import math
from datetime import timedelta
from typing import Any

import pytest

from tracker import Context, Operation, handles
from tracker.domain.operation import CANCELED, ResultInfo
from tracker.domain.policy import Policy, PolicyOptions, read_policy
from tracker.domain.type_registry import TypeRegistry
from tracker.durations import rate, seconds
from tracker.errors import ConfigurationError

NAME = "#test.policies"


class Sample(Operation, type=NAME):
    canceled_result = ResultInfo(code=400, subcode=9, message="stopped")
    canceled_members = {"reason": "stopped"}  # noqa: RUF012 - a ClassVar, as its base says


async def handler(operation: Sample, context: Context) -> None: ...


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1m1ms", 60.001),
        ("1.5m", 90),
        (7, 7),
        (0.5, 0.5),
        ("2d", 172800),
        (timedelta(minutes=2, milliseconds=1), 120.001),
    ],
)
def test_durations_are_read(text: Any, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "10 m", "-1s", "1y", "s", "1s ", "1.s", "1h-3m", "PT90S"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10/s", (10, 1)),
        ("100/m", (100, 60)),
        ("1/h", (1, 3600)),
        ("7/d", (7, 86400)),
        ("5/30s", (5, 30)),
        ("2/100ms", (2, 0.1)),
        ("9/ms", (9, 0.001)),
        ("3/1h30m", (3, 5400)),
    ],
)
def test_rates_are_read(text: str, value: tuple[int, float]) -> None:
    assert rate(text) == value


@pytest.mark.parametrize("text", ["", "10", "0/s", "-1/s", "1.5/s", "10/", "10/y", "10/0s", "10 / s", "s/10", "1/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        rate(text)


def test_a_type_without_options_is_tried_by_the_defaults() -> None:
    assert read_policy(NAME, {}) == Policy()


def test_every_option_is_read() -> None:
    options = PolicyOptions(
        run_within="10m",
        start_within="1h",
        attempts=5,
        backoff=("500ms", "2m"),
        grace=0,
        concurrency=4,
        rate="5/30s",
        per_call="serial",
        priority="high",
        rerun_unproven=False,
    )
    assert set(options) == set(PolicyOptions.__annotations__)
    assert read_policy(NAME, options) == Policy(
        run_within=600,
        start_within=3600,
        attempts=5,
        backoff_first=0.5,
        backoff_cap=120,
        grace=0,
        concurrency=4,
        rate=5,
        per=30,
        serial=True,
        priority="high",
        rerun_unproven=False,
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"run_within": 0}, "run_within must be more than 0"),
        ({"run_within": math.inf}, "run_within must be more than 0, and at most ten years"),
        ({"run_within": "ten"}, "'ten' is not a duration"),
        ({"start_within": "0s"}, "start_within must be more than 0"),
        ({"grace": -1}, "grace must be at least 0"),
        ({"grace": math.nan}, "grace must be at least 0, and at most ten years"),
        ({"backoff": ("-1s", "1m")}, "not a duration"),
        ({"backoff": (1, -1)}, "backoff must be at least 0"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"rate": "10"}, "'10' is not a rate"),
        ({"per_call": "parallel"}, "per_call can be 'serial', not 'parallel'"),
        ({"priority": "urgent"}, "priority can be 'high', 'default' or 'low', not 'urgent'"),
        ({"retries": 3}, "no such option: retries"),
    ],
)
def test_an_option_that_cannot_be_is_refused(type_registry: TypeRegistry, options: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        handles(Sample, **options)(handler)
    assert NAME not in type_registry


@pytest.mark.parametrize("option", ["retry_on", "never_retry"])
@pytest.mark.parametrize("value", [("OSError",), (OSError("x"),), (int,)])
def test_only_exception_classes_say_what_is_retried(option: str, value: Any) -> None:
    options: Any = {option: value}
    with pytest.raises(ConfigurationError, match="exception classes"):
        handles(Sample, **options)(handler)


def test_what_is_declared_is_what_is_stored_with_an_operation(type_registry: TypeRegistry) -> None:
    handles(Sample, attempts=2, retry_on=[OSError], never_retry=(FileNotFoundError,))(handler)
    entry = type_registry[NAME]
    assert (entry.retry_on, entry.never_retry) == ((OSError,), (FileNotFoundError,))
    assert entry.policy(retention=10, tombstone=20) == Policy(
        attempts=2,
        retention=10,
        tombstone=20,
        canceled=Sample.canceled_result,
        canceled_members={"reason": "stopped"},
    )
    assert Policy().canceled == CANCELED
