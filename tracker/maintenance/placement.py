"""Placement: the sets, queues and indexes in which an operation belongs, and the faults of one that is elsewhere.

`Placement` judges what `read_memberships.lua` has read about one operation at one moment. The rules are those of
`stage_sets.lua` and `move.lua`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tracker.domain.operation import OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.record import Apart
from tracker.domain.transitions import FINAL, Stage
from tracker.store.keys import Keys
from tracker.store.script_constants import script_constants

ENDED = FINAL | {Stage.TOMBSTONE}
_STATUSES = frozenset(str(status) for status in OperationStatus)
_EXCLUSIVE = _STATUSES | {
    *("ticketed", "former", "suspects", "leases", "due", "expiries", "deadlines", "lack", "process", "worker"),
    *("parked", "taken", "line", "call", "context"),
}
"""Places that hold an operation only while it belongs there."""


@dataclass(frozen=True, slots=True)
class Located:
    """The reply of `read_memberships.lua`: fields of the record, its score in each place, the places' keys."""

    key: str
    fields: Mapping[str, str]
    places: Mapping[str, str]
    names: Mapping[str, str]

    @property
    def stage(self) -> Stage | None:
        """The record's stage; None when this version does not know the stage."""
        return Stage(self.fields["stage"]) if self.fields["stage"] in set(Stage) else None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of an operation.

    `where` is a key in Redis, and `what` says what is wrong with the operation there. `stray` is the member to remove
    from that key when the operation never belongs there, whatever its stage.
    """

    key: str
    where: str
    what: str
    id: str = field(default="", compare=False)
    stage: str = field(default="", compare=False)
    stray: str = field(default="", compare=False)


class Placement:
    """The rules of placement, with the keys of this installation."""

    def __init__(self, keys: Keys) -> None:
        names = script_constants(keys, test_clock=False)
        lanes = names["lanes"].values()
        former = (lane["former"] for lane in lanes)
        self._sets = {*former, keys.suspects, keys.leases, keys.due, keys.expiries, keys.deadlines}
        self._prefixes = (
            *(names[word] for word in ("call", "serial_queue", "unserved", "apart_process", "apart_worker", "ids")),
            *(lane["ticketed"] for lane in lanes),
        )
        self._limiter, self._ids, self._record = names["limiter"], names["ids"], names["operation"]
        self._lanes = names["lanes"].keys()

    def hold_operations(self, name: str) -> bool:
        """Whether a key is a set of operations, an index of them, or a tenant's ids."""
        if name.startswith(self._limiter):
            return name.endswith((":parked", ":taken"))
        return name in self._sets or name.startswith(self._prefixes)

    def is_ids(self, name: str) -> bool:
        """Whether a key is a tenant's ids."""
        return name.startswith(self._ids)

    def faults(self, seen: Located) -> list[Fault]:
        """The faults of the operation. Empty when the operation is where it belongs, and nowhere else."""
        stage = seen.stage
        if stage is None or seen.fields["lane"] not in self._lanes:
            found = [("record", "this version does not know its stage or lane")]
        else:
            expected = set(_expected(stage, seen))
            present = seen.places.keys()
            wrong = (present & _EXCLUSIVE) - expected - _tolerated(stage, seen)
            found = [(place, f"{stage}, but not in this key") for place in expected - present - {"ticket"}]
            found += [(place, f"{stage}, but in this key") for place in wrong]
            found += _wrong_values(stage, seen, expected)
        names = {**seen.names, "record": f"{self._record}{seen.key}"}
        id_, word = seen.fields["id"], seen.fields["stage"]
        return [Fault(seen.key, names.get(place, place), what, id_, word) for place, what in found]


def _expected(stage: Stage, seen: Located) -> Iterator[str]:
    fields = seen.fields
    match stage:
        case Stage.QUEUED if "suspects" in seen.places and "ticketed" not in seen.places:
            yield "suspects"
        case Stage.QUEUED if "former" in seen.places and "ticketed" not in seen.places:
            yield from ("former", "ticket")
        case Stage.QUEUED:
            yield from ("ticketed", "turn", "ticket")
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
    """The blockers that the operation may have, and the places where it waits then.

    A serial operation is in `line` in any case.
    """
    gate = dict.fromkeys(("cap", "rate"), ("parked", "gates")) if fields["gate"] else {}
    apart = ("worker", "workers") if fields["apart"] == Apart.WORKER else ("process", "processes")
    serial = {"serial": ()} if fields["serial"] else {}
    return {"type": ("lack", "lacking"), "apart": apart, **gate, **serial}


def _expected_while_open(stage: Stage, fields: Mapping[str, str]) -> Iterator[str]:
    if fields["start_by"] and not _number(fields["attempt"]):
        yield "deadlines"
    if fields["serial"] and (stage is not Stage.DELAYED or _number(fields["ticket"])):
        yield "line"
    if stage is Stage.RUNNING and fields["gate"] and _concurrency(fields):
        yield "taken"


def _tolerated(stage: Stage, seen: Located) -> set[str]:
    """Places where the operation may be. A queued operation that its limiter has admitted has score 0 in `taken`."""
    return {"taken"} if stage is Stage.QUEUED and seen.places.get("taken") == "0" else set()


def _wrong_values(stage: Stage, seen: Located, expected: set[str]) -> Iterator[tuple[str, str]]:
    """Faults in places where the operation belongs: a wrong ticket, score, blocker or position."""
    fields, places = seen.fields, seen.places
    ticket = fields["ticket"]
    if "ticket" in expected and "ticket" not in places:
        yield "ticket", f"queued, but its ticket {ticket} is not in this queue"
    for place in expected & {"ticketed", "former"}:
        if places.get(place, ticket) != ticket:
            yield place, f"queued with ticket {ticket}, but in this key with ticket {places[place]}"
    if stage is Stage.RUNNING and places.get("taken") == "0":
        yield "taken", "running, but in this key as queued"
    if stage is Stage.PARKED and fields["blocker"] not in _blockers(fields):
        yield "record", f"parked, and blocked by {fields['blocker'] or 'nothing'}"
    if "line" in places and "line" in expected:
        yield from _serial_queue_faults(stage, fields["blocker"], places.get("head"))


def _serial_queue_faults(stage: Stage, blocker: str, head: str | None) -> Iterator[tuple[str, str]]:
    """Faults of the operation's position in its serial queue, in which only the head may do more than wait.

    `head` is the stage of the queue's head, or `itself` when the operation is the head. When both have begun, that is
    no fault: both go on to their end, and no repair could change that.
    """
    waits_in_queue = stage is Stage.PARKED and blocker == "serial"
    if waits_in_queue and head == "itself":
        yield "line", "parked to wait in this serial queue, but the first in it"
    elif not waits_in_queue and head not in {"itself", None}:
        begun = {Stage.RUNNING, Stage.DELAYED}
        if stage not in begun or head not in begun:
            yield "line", f"{stage}, but not the first in this serial queue"


def _concurrency(fields: Mapping[str, str]) -> int:
    return int(json.loads(fields["policy"] or "{}").get("concurrency", Policy().concurrency))


def _number(text: str) -> int:
    return int(text or 0)
