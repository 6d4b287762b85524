"""Durations and counts as text, for the commands that operators use."""

_UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


def spell(seconds: float) -> str:
    """A duration as text, with at most two units: "0.3 s", "12 s", "3 min 20 s", "2 h 5 min", "4 d"."""
    if seconds < _UNITS["min"]:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + " s"
    left = round(seconds)
    parts = []
    for unit, size in _UNITS.items():
        number, left = divmod(left, size)
        parts.append((number, unit))
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def counted(number: int, noun: str) -> str:
    """A count with its noun: "1 operation", "3 operations"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
