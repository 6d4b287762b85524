"""Members of a create that say when an operation may start: `delay` and `notBefore`."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from tracker.bodies.field_errors import FieldErrors
from tracker.domain.operation import (
    START_MEMBERS,
    Json,
    Micros,
    Operation,
)
from tracker.domain.type_registry import OperationType
from tracker.durations import LONGEST_TEXT, seconds
from tracker.errors import ConfigurationError

LONGEST_WAIT = timedelta(days=366)
"""The longest time from create to the earliest start that a client may ask for."""
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
"""A date-time with an offset (RFC 3339, 5.6)."""
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?(?<![PT])", re.ASCII)
"""OData's Edm.Duration without a sign: days, hours, minutes, seconds (CSDL 4.01, 3.3)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def start_members(body: Json, entry: OperationType | None) -> Json:
    """The members `delay` and `notBefore` of the body, if they are there and the type does not declare them itself."""
    return {
        name: body[name] for name in start_member_names(entry.model if entry else None) if body.get(name) is not None
    }


@lru_cache(256)
def start_member_names(model: type[Operation] | None) -> frozenset[str]:
    """The names of `delay` and `notBefore`, without those that the type declares as members of its own.

    The cache saves 1 % of the instructions of benchmarks.api: create and $batch.
    """
    return START_MEMBERS - model.declared_members() if model else START_MEMBERS


def read_delay(value: Any, errors: FieldErrors) -> float:
    """Read `delay`: the shortest time from create to the first attempt, in seconds.

    For a wrong value an error is added, and the delay is 0.
    """
    length = 0.0 if value is None else _seconds(value)
    if length is None:
        errors.add("delay", "must be a number of seconds, or a text like '90s', '1h30m' or 'PT90S'")
    elif not 0 <= length <= LONGEST_WAIT.total_seconds():
        errors.add("delay", f"must be at least 0 and at most {LONGEST_WAIT.days} days")
    else:
        return float(length)
    return 0.0


def _seconds(value: Any) -> float | None:
    """A duration in seconds. None when the value has no form of a duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return None
    if match := _DURATION.fullmatch(value):
        return sum(float(number or 0) * unit for number, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    try:
        return seconds(value)
    except ConfigurationError:
        return None


def read_not_before(value: Any, errors: FieldErrors) -> Micros:
    """Read `notBefore`: the earliest time of the first attempt; 0 for at once.

    For a wrong value an error is added, and the time is 0.
    """
    if value is None:
        return 0
    moment = _date_time(value)
    if moment is None:
        errors.add("notBefore", "must be a date-time with an offset (RFC 3339), like 2026-01-31T12:00:00Z")
    elif moment - datetime.now(UTC) > LONGEST_WAIT:
        errors.add("notBefore", f"must be at most {LONGEST_WAIT.days} days ahead")
    else:
        return max(0, (moment - _EPOCH) // timedelta(microseconds=1))
    return 0


def _date_time(value: Any) -> datetime | None:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not _DATE_TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None
