"""Parsers of durations and rates as people write them: "90s", "1h30m", "10/s"."""

import re
from datetime import timedelta

from tracker.errors import ConfigurationError

LONGEST = 3660 * 86400.0
"""The longest duration that any option accepts: ten years, in seconds."""

Duration = str | float | timedelta

LONGEST_TEXT = 64
"""How many characters the text of a duration or rate has at most. Reading a longer text would take too long."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(duration: Duration) -> float:
    """Read a duration: "90s", "1h30m", "250ms", a number of seconds, or a timedelta.

    Raises ConfigurationError for anything else.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, int | float):
        return float(duration)
    if len(duration) > LONGEST_TEXT or not re.fullmatch(f"(?:{_PART.pattern})+", duration):
        raise ConfigurationError(f"{duration[:LONGEST_TEXT]!r} is not a duration like '90s', '10m' or '1h30m'")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


_RATE = re.compile(r"([1-9][0-9]{0,8})/(\d.*|ms|s|m|h|d)")


def rate(text: str) -> tuple[int, float]:
    """Read a rate, "n/interval": "10/s", "100/m", "5/30s". Returns n and the interval in seconds.

    Raises ConfigurationError for anything else.
    """
    match = _RATE.fullmatch(text) if len(text) <= LONGEST_TEXT else None
    if match is None:
        raise ConfigurationError(f"{text[:LONGEST_TEXT]!r} is not a rate like '10/s', '100/m' or '5/30s'")
    interval = match[2]
    per = _UNITS[interval] if interval in _UNITS else seconds(interval)
    if per <= 0:
        raise ConfigurationError(f"{text!r}: a rate's interval must be more than 0")
    return int(match[1]), per
