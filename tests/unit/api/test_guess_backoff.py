"""How long an address that guesses tokens must wait."""

import tracemalloc

import pytest

from tracker.api import guess_backoff
from tracker.api.guess_backoff import LONGEST, WINDOW, GuessBackoff

FREE = 3


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def backoff(time: Time) -> GuessBackoff:
    return GuessBackoff(FREE, clock=time)


def slowed(backoff: GuessBackoff, address: str = "a") -> int:
    """Send as many wrong tokens as are free, and one more."""
    assert [backoff.note(address) for _ in range(FREE)] == [0] * FREE
    return backoff.note(address)


def test_the_first_wrong_tokens_cost_nothing_and_the_next_one_a_second(backoff: GuessBackoff) -> None:
    assert slowed(backoff) == 1


def test_one_address_slows_down_no_other(backoff: GuessBackoff) -> None:
    slowed(backoff)
    assert backoff.note("b") == 0


def test_wrong_tokens_over_more_than_a_minute_are_counted_anew(backoff: GuessBackoff, time: Time) -> None:
    for _ in range(10):
        assert [backoff.note("a") for _ in range(FREE)] == [0] * FREE
        time.now += WINDOW


def test_a_wrong_token_during_a_wait_is_told_the_rest_of_it(backoff: GuessBackoff, time: Time) -> None:
    slowed(backoff)
    time.now += 1
    assert backoff.note("a") == 2
    time.now += 0.5
    assert [backoff.note("a") for _ in range(100)] == [2] * 100
    time.now += 1
    assert backoff.note("a") == 1


def test_each_wait_is_twice_as_long_as_the_one_before_and_has_an_end(backoff: GuessBackoff, time: Time) -> None:
    waits = [slowed(backoff)]
    for _ in range(12):
        time.now += waits[-1]
        waits.append(backoff.note("a"))
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(waits[9:]) == {LONGEST}
    assert all(isinstance(wait, int) for wait in waits)


def test_an_address_that_was_quiet_for_a_minute_after_its_wait_starts_anew(backoff: GuessBackoff, time: Time) -> None:
    wait = slowed(backoff)
    time.now += wait + WINDOW - 0.01
    assert backoff.note("a") == 2
    time.now += 2 + WINDOW
    assert slowed(backoff) == 1


def test_the_address_that_was_quiet_the_longest_is_forgotten_first(
    backoff: GuessBackoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guess_backoff, "MOST_ADDRESSES", 3)
    for address in "abc":
        slowed(backoff, address)
    backoff.note("a")
    backoff.note("d")
    assert len(backoff) == 3
    assert backoff.note("b") == 0
    assert backoff.note("a") == 1


def test_the_memory_for_addresses_is_bounded(backoff: GuessBackoff) -> None:
    tracemalloc.start()
    try:
        for number in range(3 * guess_backoff.MOST_ADDRESSES):
            backoff.note(f"2001:db8:{number:x}::/64")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"peak of {3 * guess_backoff.MOST_ADDRESSES} addresses: {peak / 2**20:.1f} MiB")
    assert len(backoff) == guess_backoff.MOST_ADDRESSES
    assert peak < 8 * 2**20
