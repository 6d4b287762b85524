"""What happened in a run, as its journals tell it. Imports nothing of the tracker's; all times are in seconds.

An operation is known by what clients were told of it (`Sight`), by what its handler did (`Attempt`), and by what was
done meanwhile to the processes (`Fault`).
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
"""SIGKILL: an API, a worker's manager, what forks its hosts, a host that runs handlers, the server."""
STEPS = ("after_claim", "before_handler", "after_handler", "mid_commit", "in_sweep", "after_create")
"""A process killed itself there: the steps of `tracker.runtime.failpoints`."""
PAUSES = ("pause worker", "pause valkey")
"""SIGSTOP, and later SIGCONT."""
DROPS = ("drop normal", "drop pubsub")
"""CLIENT KILL TYPE: every connection, every subscription."""
FAULTS = (*KILLS, *STEPS, *PAUSES, *DROPS)
OUTAGES = frozenset({"kill valkey", "pause valkey"})

NOT_LISTED = 0
"""Stands for the HTTP status where an operation is missing in the list of its call."""
RANK = {"NotStarted": 0, "Running": 1, "Completed": 2, "Failed": 2}
FINAL = 2


@dataclass(frozen=True, slots=True)
class Sight:
    """One answer, or several in a row that were the same: the first came at `answered`, the last was asked at `asked`.

    `http` is the status of the answer, NOT_LISTED for a list that lacks the operation; the rest is the operation's.
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
        """How far the operation was."""
        return RANK[self.status]


@dataclass(slots=True)
class Attempt:
    """A handler's run; `end` is None when it did not come to its own end, `how` how it went."""

    operation: str
    number: int
    worker: str
    pid: int
    start: float
    end: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to `target`, from `at` until `over`; the same when it was a moment."""

    kind: str
    target: str
    pid: int
    at: float
    over: float

    @property
    def lethal(self) -> bool:
        """Whether the target ended by it: a worker lives without a host, and nothing dies of a pause."""
        return self.kind in KILLS + STEPS and self.kind != "kill host"


@dataclass(slots=True)
class Told:
    """An operation that was `accepted` then, and must not start before it `may_start`.

    `deleted` is when a client knew that it was, infinity when it was not.
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
        """What holds for its type."""
        return KINDS[self.type]

    @property
    def seen(self) -> list[Sight]:
        """The sights that showed it."""
        return [sight for sight in self.sights if sight.http == 200]  # noqa: PLR2004 - HTTP's OK

    @property
    def final(self) -> Sight | None:
        """The first sight of it as ended."""
        finals = (sight for sight in self.seen if sight.rank == FINAL)
        return min(finals, key=lambda sight: sight.answered, default=None)


@dataclass(frozen=True, slots=True)
class History:
    """A run.

    `stopped` is when the last fault was over and nothing more was created, `starts` when what was started; `odd`
    holds answers that nobody should get.
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
    """A fault that lasts and was never over lasted for ever."""
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
    """The operations that were accepted, with what clients were told of them; and the odd answers."""
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
