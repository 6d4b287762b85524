"""Where an operation belongs: the sets, queues and indexes that its stage keeps it in, and what of that is not so.

`Placement` judges what `read_memberships.lua` has seen of one operation at one moment. The rules are those of
`stage_sets.lua` and `move.lua`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tracker.domain.operation import OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.transitions import FINAL, Stage
from tracker.store.keys import Keys
from tracker.store.script_constants import script_constants

ENDED = FINAL | {Stage.TOMBSTONE}
_STATUSES = frozenset(str(status) for status in OperationStatus)
_EXCLUSIVE = _STATUSES | {
    *("ticketed", "suspects", "leases", "due", "expiries", "deadlines", "lack"),
    *("parked", "taken", "line", "call", "context"),
}
"""Places that hold an operation only while it belongs there."""


@dataclass(frozen=True, slots=True)
class Located:
    """What `read_memberships.lua` found: fields of the record, its score in each place, the places' keys."""

    key: str
    fields: Mapping[str, str]
    places: Mapping[str, str]
    names: Mapping[str, str]

    @property
    def stage(self) -> Stage | None:
        """The record's stage; None when it is none that this version knows."""
        return Stage(self.fields["stage"]) if self.fields["stage"] in set(Stage) else None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it should be.

    `where` is a key in Redis, `what` is wrong with the operation there. `stray` is the member to take out when
    the operation has no business in that key, whatever its stage.
    """

    key: str
    where: str
    what: str
    id: str = field(default="", compare=False)
    stage: str = field(default="", compare=False)
    stray: str = field(default="", compare=False)


class Placement:
    """The places of this installation."""

    def __init__(self, keys: Keys) -> None:
        names = script_constants(keys, test_clock=False)
        ticketed = (lane["ticketed"] for lane in names["lanes"].values())
        self._sets = {*ticketed, keys.suspects, keys.leases, keys.due, keys.expiries, keys.deadlines}
        self._families = tuple(names[word] for word in ("call", "serial_queue", "unserved", "ids"))
        self._gate, self._ids, self._record = names["limiter"], names["ids"], names["operation"]
        self._lanes = names["lanes"].keys()

    def hold_operations(self, name: str) -> bool:
        """Whether a key is a set of operations, an index of them, or a tenant's ids."""
        if name.startswith(self._gate):
            return name.endswith((":parked", ":taken"))
        return name in self._sets or name.startswith(self._families)

    def is_ids(self, name: str) -> bool:
        """Whether a key is a tenant's ids."""
        return name.startswith(self._ids)

    def faults(self, seen: Located) -> list[Fault]:
        """What is wrong with where the operation is; nothing, if all is well."""
        stage = seen.stage
        if stage is None or seen.fields["lane"] not in self._lanes:
            found = [("record", "this version does not know its stage or lane")]
        else:
            expected = set(_expected(stage, seen))
            present = seen.places.keys()
            wrong = (present & _EXCLUSIVE) - expected - _tolerated(stage, seen)
            found = [(place, f"{stage}, but not in this key") for place in expected - present - {"ticket"}]
            found += [(place, f"{stage}, but in this key") for place in wrong]
            found += _oddities(stage, seen, expected)
        names = {**seen.names, "record": f"{self._record}{seen.key}"}
        id_, word = seen.fields["id"], seen.fields["stage"]
        return [Fault(seen.key, names.get(place, place), what, id_, word) for place, what in found]


def _expected(stage: Stage, seen: Located) -> Iterator[str]:
    fields = seen.fields
    match stage:
        case Stage.QUEUED if "suspects" in seen.places and "ticketed" not in seen.places:
            yield "suspects"
        case Stage.QUEUED:
            yield from ("ticketed", "ticket")
        case Stage.PARKED:
            yield from _blockers(fields).get(fields["blocker"], ())
        case Stage.DELAYED:
            yield "due"
        case Stage.RUNNING:
            yield "leases"
        case _:
            yield "expiries"
    if stage not in ENDED:
        yield from _expected_while_open(stage, fields)
    if not fields["hidden"] and stage is not Stage.TOMBSTONE:
        yield from ("call", fields["status"])
        if fields["context"]:
            yield "context"
    yield "ids"


def _blockers(fields: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What may block such an operation, and where it waits then; the line is a place of every serial operation."""
    gate = dict.fromkeys(("cap", "rate"), ("parked", "gates")) if fields["gate"] else {}
    return {"type": ("lack", "lacking"), **gate, **({"serial": ()} if fields["serial"] else {})}


def _expected_while_open(stage: Stage, fields: Mapping[str, str]) -> Iterator[str]:
    if fields["start_by"] and not _number(fields["attempt"]):
        yield "deadlines"
    if fields["serial"] and (stage is not Stage.DELAYED or _number(fields["ticket"])):
        yield "line"
    if stage is Stage.RUNNING and fields["gate"] and _concurrency(fields):
        yield "taken"


def _tolerated(stage: Stage, seen: Located) -> set[str]:
    """What is queued may have been let through its gate, which a score of 0 says."""
    return {"taken"} if stage is Stage.QUEUED and seen.places.get("taken") == "0" else set()


def _oddities(stage: Stage, seen: Located, expected: set[str]) -> Iterator[tuple[str, str]]:
    """What is in its place, and yet not right."""
    fields, places = seen.fields, seen.places
    ticket, number = fields["ticket"], places.get("ticketed")
    if "ticket" in expected and "ticket" not in places:
        yield "ticket", f"queued, but its ticket {ticket} is not in this queue"
    if "ticketed" in expected and number is not None and number != ticket:
        yield "ticketed", f"queued with ticket {ticket}, but in this key with ticket {number}"
    if stage is Stage.RUNNING and places.get("taken") == "0":
        yield "taken", "running, but in this key as queued"
    if stage is Stage.PARKED and fields["blocker"] not in _blockers(fields):
        yield "record", f"parked, and blocked by {fields['blocker'] or 'nothing'}"
    if "line" in places and "line" in expected:
        yield from _out_of_line(stage, fields["blocker"], places.get("head"))


def _out_of_line(stage: Stage, blocker: str, head: str | None) -> Iterator[tuple[str, str]]:
    """Only the head of a line has left its wait. `head` is the stage of whoever is before this one, or `itself`.

    Of two that have begun, both go on to their end: nothing in the line is wrong then that could be put right.
    """
    waits_in_line = stage is Stage.PARKED and blocker == "serial"
    if waits_in_line and head == "itself":
        yield "line", "parked to wait in this serial queue, but the first in it"
    elif not waits_in_line and head not in {"itself", None}:
        begun = {Stage.RUNNING, Stage.DELAYED}
        if stage not in begun or head not in begun:
            yield "line", f"{stage}, but not the first in this serial queue"


def _concurrency(fields: Mapping[str, str]) -> int:
    return int(json.loads(fields["policy"] or "{}").get("concurrency", Policy().concurrency))


def _number(text: str) -> int:
    return int(text or 0)
