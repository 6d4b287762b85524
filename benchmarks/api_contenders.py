"""Systems of part 2 of `make bench-api`, and the ways in which their clients learn that an operation has ended."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.trees import THIS, Tree

OURS = "tracker"


@dataclass(frozen=True, slots=True)
class Way:
    """How a client learns of the end: the client polls, or its read waits (`waits`), or its create waits (`at_once`).

    `every` is the time in seconds between two polls, of the client or, where a request waits, of the service. It is 0
    for a service that is notified of the end.
    """

    every: float = 0.0
    waits: bool = False
    at_once: bool = False

    def __str__(self) -> str:
        """The name of the way in tables."""
        word = "at once" if self.at_once else "waits" if self.waits else "looks"
        every = f" {self.every * 1000:.0f} ms" if self.every or word == "looks" else ""
        return f"{word}{every}"


SERVICE_LOOKS = (0.005, 0.02)
LOOKS = tuple(Way(every) for every in (0.0, *SERVICE_LOOKS))
WAITS = tuple(Way(every, waits=True) for every in SERVICE_LOOKS)
AT_ONCE = tuple(Way(every, at_once=True) for every in SERVICE_LOOKS)
TOLD, TOLD_AT_ONCE = Way(waits=True), Way(at_once=True)
"""A request waits, and the service is notified of the end."""
THEIR_WAYS = {
    "arq": (*LOOKS, *WAITS, *AT_ONCE),
    "celery": (*LOOKS, TOLD, TOLD_AT_ONCE),
    "saq": (*LOOKS, TOLD, *AT_ONCE),
    "taskiq": (*LOOKS, *WAITS, *AT_ONCE),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A queue, and the framework of its service. The tracker has no framework, and the checkout that it runs from."""

    queue: str
    framework: str = ""
    ways: tuple[Way, ...] = (*LOOKS, TOLD, TOLD_AT_ONCE)
    tree: Tree = THIS

    @property
    def name(self) -> str:
        """The name of the row."""
        return f"{self.queue}, {self.framework}" if self.framework else self.queue

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / ".venv-bench" / f"api-{self.queue}" / "bin" / "python" if self.framework else self.tree.python

    def api(self, port: int) -> tuple[str, ...]:
        """The command line of its service, which writes a first line of output when it starts."""
        if not self.framework:
            return self.tree.tracker("serve")
        return (str(self.python), "-m", "benchmarks.web", self.queue, self.framework, str(port))

    def worker(self) -> tuple[str, ...]:
        """The command line of its worker."""
        return (str(self.python), "-m", "benchmarks.peers", self.queue, "coroutines", "noop", "worker")


CONTENDERS = [
    Contender(OURS),
    *(Contender(queue, frame, ways) for queue, ways in THEIR_WAYS.items() for frame in ("aiohttp", "fastapi")),
]
