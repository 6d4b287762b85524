"""History of a run, read from its journals.

A history has three sources: the answers that clients received (`Sight`), the runs of handlers (`Attempt`), and the
faults (`Fault`). All times are seconds of CLOCK_MONOTONIC. This module imports nothing from the tracker.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from chaos.journal import ANSWERS, EFFECTS, EVENTS, entries
from chaos.kinds import KINDS, Kind

KILLS = ("kill api", "kill worker", "kill fork_server", "kill host", "kill valkey")
"""Faults by SIGKILL: of an API, a worker's manager, a fork server, a host that runs handlers, or the server."""
FAILPOINTS = ("after_claim", "before_handler", "after_handler", "mid_commit", "in_sweep", "after_create")
"""Faults by which a process kills itself, named after the failpoints of `tracker.runtime.failpoints`."""
PAUSES = ("pause worker", "pause valkey")
"""Faults by SIGSTOP, and SIGCONT some seconds later."""
DROPS = ("drop normal", "drop pubsub")
"""Faults by the command CLIENT KILL TYPE, which closes all connections of that type at the server."""
FAIL_FORK = "fail fork"
"""A fork of a host fails, as when the system has no process left."""
REFUSALS = ("refuse scripts", "fill memory")
"""Faults by which the server refuses: a permission is taken away (NOPERM), or its `maxmemory` is reached."""
DAMAGE = "damage record"
"""The record of an operation of another tenant is overwritten."""
JUMP = "jump clock"
"""The server's clock jumps by up to an hour, forward or back. It needs Debian's package `faketime`."""
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
"""The library that lets the server's clock jump; None where it is not installed."""
FAULTS = (*KILLS, *FAILPOINTS, *PAUSES, *DROPS, FAIL_FORK, *REFUSALS, DAMAGE, *([JUMP] if FAKETIME else []))
"""Faults that the harness causes."""
POISON = "poison"
"""An operation of the load ends the process in which it runs."""
OUTAGES = frozenset({"kill valkey", "pause valkey", *REFUSALS, JUMP})
"""Faults during which the server does not answer, or no lease is judged."""

NOT_LISTED = 0
"""The `http` of a `Sight` when the list of the call does not contain the operation."""
RANK = {"NotStarted": 0, "Running": 1, "Completed": 2, "Failed": 2}
FINAL = 2


@dataclass(frozen=True, slots=True)
class Sight:
    """The state of an operation in one answer, or in several equal answers in a row.

    The first of the answers came at `answered`; the last of the requests was sent at `asked`. `http` is the HTTP status
    of the answer, or NOT_LISTED. The other fields come from the operation.
    """

    answered: float
    asked: float
    http: int
    status: str = ""
    attempt: int = 0
    code: int = 0
    subcode: int = 0
    message: str = ""
    ended: str = ""

    @property
    def rank(self) -> int:
        """The progress of the operation as a number. A later state has a higher rank."""
        return RANK[self.status]


@dataclass(slots=True)
class Attempt:
    """One run of a handler. `end` is None when the handler was killed. `how` is how the handler ended."""

    operation: str
    number: int
    worker: str
    pid: int
    start: float
    end: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at `target`, from `at` until `over`. Both times are equal for a fault that does not last."""

    kind: str
    target: str
    pid: int
    at: float
    over: float

    @property
    def lethal(self) -> bool:
        """Whether the fault ends the process `target`.

        A worker survives the death of one of its hosts, and every process survives a pause.
        """
        return self.kind in KILLS + FAILPOINTS and self.kind != "kill host"


@dataclass(slots=True)
class Told:
    """Everything that the journals say about one operation.

    * `accepted`: when the answer to the create came.
    * `may_start`: the earliest time at which the operation may start.
    * `cancel_asked`, `delete_asked`: when a client asked first; infinity for never.
    * `deleted`: when a client received the confirmation of its delete; infinity for never.
    """

    id: str
    type: str
    call: str
    accepted: float
    may_start: float = 0.0
    cancel_asked: float = inf
    delete_asked: float = inf
    deleted: float = inf
    sights: list[Sight] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """The entry of its type in `KINDS`."""
        return KINDS[self.type]

    @property
    def seen(self) -> list[Sight]:
        """The sights that contain the operation."""
        return [sight for sight in self.sights if sight.http == 200]  # noqa: PLR2004 - HTTP's OK

    @property
    def final(self) -> Sight | None:
        """The first sight in which the operation has ended."""
        finals = (sight for sight in self.seen if sight.rank == FINAL)
        return min(finals, key=lambda sight: sight.answered, default=None)


@dataclass(frozen=True, slots=True)
class History:
    """All that the journals of a run contain.

    * `starts`: time and name of each start of a process.
    * `odd`: answers that no correct API gives.
    * `stopped`: when the last fault was over and the last operation was created.
    """

    operations: Mapping[str, Told]
    faults: Sequence[Fault]
    starts: Sequence[tuple[float, str]] = ()
    odd: Sequence[str] = ()
    stopped: float = inf


def read(directory: Path) -> History:
    """Read the journals of a run."""
    operations, odd = _answers(entries(directory / ANSWERS))
    for attempt in _attempts(entries(directory / EFFECTS)):
        if attempt.operation in operations:
            operations[attempt.operation].attempts.append(attempt)
    events = list(entries(directory / EVENTS))
    overs = {(event["kind"], event["since"]): event["t"] for event in events if event["event"] == "over"}
    return History(
        operations=operations,
        faults=[
            Fault(event["kind"], event["target"], event["pid"], at, overs.get((event["kind"], at), _end(event)))
            for event in events
            if event["event"] == "fault"
            for at in [event["t"]]
        ],
        starts=[(event["t"], event["target"]) for event in events if event["event"] == "start"],
        odd=odd,
        stopped=next((event["t"] for event in events if event["event"] == "stopped"), inf),
    )


def _end(event: Mapping[str, Any]) -> float:
    """The end of a fault without an `over` entry: infinity for a fault that lasts, else the time of the fault."""
    return inf if event["kind"] in OUTAGES or event["kind"] in PAUSES else float(event["t"])


def _attempts(effects: Iterable[Mapping[str, Any]]) -> Iterable[Attempt]:
    found: dict[tuple[str, int, int], Attempt] = {}
    for effect in effects:
        name = effect["id"], effect["attempt"], effect["pid"]
        if effect["event"] == "start":
            found[name] = Attempt(effect["id"], effect["attempt"], effect["worker"], effect["pid"], effect["t"])
        else:
            found[name].end, found[name].how = effect["t"], effect["how"]
    return found.values()


def _answers(answers: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Told], list[str]]:
    """The accepted operations with everything that clients received about them, and the odd answers."""
    operations: dict[str, Told] = {}
    sights: dict[str, list[Sight]] = defaultdict(list)
    later: list[Mapping[str, Any]] = []
    odd: list[str] = []
    for answer in answers:
        about = {name: value for name, value in answer.items() if name not in {"what", "id"}}
        match answer["what"]:
            case "accepted":
                accepted = about.pop("answered")
                operations[answer["id"]] = Told(id=answer["id"], accepted=accepted, **about)
            case "saw":
                sights[answer["id"]].append(Sight(**about))
            case "odd":
                odd.append(f"{answer['http']} for {answer['request']}: {answer['text']}")
            case _:
                later.append(answer)
    for answer in later:
        told = operations[answer["id"]]
        if answer["what"] == "cancel":
            told.cancel_asked = min(told.cancel_asked, answer["asked"])
        else:
            told.delete_asked, told.deleted = answer["asked"], answer.get("answered", inf)
    for name, told in operations.items():
        told.sights = sorted(sights[name], key=lambda sight: sight.answered)
    return operations, odd
