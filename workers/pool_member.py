"""A host of the pool, and how the pool uses it."""

from dataclasses import dataclass

from workers.host import Host


@dataclass(slots=True, eq=False)
class Member:
    """A host of the pool."""

    host: Host
    running: int = 0
    """How many attempts it has now, including those that wait in it."""
    completed: int = 0
    retired: bool = False
    """Whether it has been replaced: it gets no more attempts, and ends after those that it has."""
    apart: bool = False
    """Whether it runs one attempt and then ends."""
    stuck: bool = False
    """Whether one of its handlers still runs after its attempt has ended. Then the host has to be killed."""
