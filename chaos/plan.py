"""Parameters of a run: the plan of `make chaos` and the plan of the test suite."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Parameters of a run. All durations are in seconds.

    * `seed`: seed of the load and of the faults.
    * `seconds`: length of load and faults.
    * `gap`: average time between two faults.
    * `pause_valkey`, `pause_worker`: length of a pause of the server, and of a worker.
    * `rate`: how many operations are created in a second.
    * `within`: the longest time from the last fault until every operation has ended.
    * `quiet`: one fault of each round comes alone, so that the time of takeovers can be measured.
    * `complete`: a run without a fault of every kind is a failure.
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
    """The plan of `make chaos`."""
    return Plan(
        seed=seed,
        seconds=60 * minutes,
        gap=3.0,
        pause_valkey=30.0,
        pause_worker=15.0,
        rate=15.0,
        within=300.0,
        quiet=True,
        complete=True,
    )


def short(seed: int) -> Plan:
    """The plan of the test suite: 14 seconds, in which each kind of fault is tried about once."""
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
