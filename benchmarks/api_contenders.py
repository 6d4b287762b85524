"""Who takes part end to end, and how their clients learn that an operation has ended."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.api_bare import TRACKER
from benchmarks.processes import ROOT

OURS = "tracker"


@dataclass(frozen=True, slots=True)
class Way:
    """How a client learns of the end.

    It looks every so many seconds; or it asks to be answered at the end (`waits`); or its create is answered only then
    (`at_once`). Where the service itself has to look meanwhile, it does so every so many seconds.
    """

    every: float = 0.0
    waits: bool = False
    at_once: bool = False

    def __str__(self) -> str:
        """In a word or two."""
        word = "at once" if self.at_once else "waits" if self.waits else "looks"
        every = f" {self.every * 1000:.0f} ms" if self.every or word == "looks" else ""
        return f"{word}{every}"


SERVICE_LOOKS = (0.005, 0.02)
LOOKS = tuple(Way(every) for every in (0.0, *SERVICE_LOOKS))
WAITS = tuple(Way(every, waits=True) for every in SERVICE_LOOKS)
AT_ONCE = tuple(Way(every, at_once=True) for every in SERVICE_LOOKS)
TOLD, TOLD_AT_ONCE = Way(waits=True), Way(at_once=True)
"""The service is told of the end."""
THEIR_WAYS = {
    "arq": (*LOOKS, *WAITS, *AT_ONCE),
    "celery": (*LOOKS, TOLD, TOLD_AT_ONCE),
    "saq": (*LOOKS, TOLD, *AT_ONCE),
    "taskiq": (*LOOKS, *WAITS, *AT_ONCE),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A queue, and the framework of the service before it; none for ours."""

    queue: str
    framework: str = ""
    ways: tuple[Way, ...] = (*LOOKS, TOLD, TOLD_AT_ONCE)

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.queue}, {self.framework}" if self.framework else self.queue

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / ".venv-bench" / f"api-{self.queue}" / "bin" / "python" if self.framework else Path(sys.executable)

    def api(self, port: int) -> tuple[str, ...]:
        """The command line of its service, whose first line of output comes when it starts."""
        if not self.framework:
            return (*TRACKER, "serve")
        return (str(self.python), "-m", "benchmarks.web", self.queue, self.framework, str(port))

    def worker(self) -> tuple[str, ...]:
        """The command line of its worker."""
        return (str(self.python), "-m", "benchmarks.peers", self.queue, "coroutines", "noop", "worker")


CONTENDERS = [
    Contender(OURS),
    *(Contender(queue, frame, ways) for queue, ways in THEIR_WAYS.items() for frame in ("aiohttp", "fastapi")),
]
