"""What a run is like."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations in seconds: of load and faults, of what lies between two faults on average, of the two pauses.

    `rate` is how many operations are created in a second, `within` how long after the last fault the last one may
    end. `quiet`: one fault of each round comes alone, so that it can be told how soon operations run again;
    `complete`: a kind of fault that never came is a failure.
    """

    seed: int
    seconds: float
    gap: float
    pause_valkey: float
    pause_worker: float
    rate: float
    within: float
    quiet: bool
    complete: bool


def long(seed: int, minutes: float) -> Plan:
    """What `make chaos` does."""
    return Plan(
        seed=seed,
        seconds=60 * minutes,
        gap=3.0,
        pause_valkey=30.0,
        pause_worker=15.0,
        rate=15.0,
        within=120.0,
        quiet=True,
        complete=True,
    )


def short(seed: int) -> Plan:
    """What the tests do: every kind of fault is tried once, in a quarter of a minute."""
    return Plan(
        seed=seed,
        seconds=14.0,
        gap=0.7,
        pause_valkey=3.0,
        pause_worker=3.0,
        rate=15.0,
        within=60.0,
        quiet=False,
        complete=False,
    )
