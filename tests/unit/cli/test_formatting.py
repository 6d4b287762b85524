"""Lengths of time and numbers of things in the texts for operators."""

import pytest

from tracker.cli.formatting import counted, spell


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.26, "0.3 s"),
        (12, "12 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (200.4, "3 min 20 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (86399.6, "1 d"),
        (4 * 86400 + 3 * 3600 + 59, "4 d 3 h"),
    ],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, words: str) -> None:
    assert spell(seconds) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 operations"), (1, "1 operation"), (2, "2 operations")])
def test_a_number_of_things_is_singular_or_plural(number: int, words: str) -> None:
    assert counted(number, "operation") == words
