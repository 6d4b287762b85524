"""A change: one decided transition of an operation, as a script writes it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.domain.operation import Json, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import TRANSITIONS, Stage, Transition
from tracker.errors import IllegalTransition


@dataclass(frozen=True, slots=True)
class Change:
    """One decided transition. A script applies it as a whole or refuses it as a whole.

    * `seen`: the record as it was read. `stage`: the stage after the change. `fields`: the fields to write.
    * `delay`: seconds until the operation is due, if `stage` is delayed.
    * `timestamp_field`: the name of a field that the script sets to the server's time.
    * `lease_ran_out`: the script refuses the change if the lease was renewed meanwhile.
    * `revision`: the script refuses the change unless the record still has this revision.
    * `entry`: what is appended to the operation's history of attempts.
    * `token`: the name of this change. A change that is sent again because its reply was lost is written once.
    """

    transition: Transition
    seen: Record
    stage: Stage
    fields: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0.0
    timestamp_field: str = ""
    lease_ran_out: bool = False
    revision: int | None = None
    entry: Json | None = None
    token: str = field(default_factory=lambda: f"{random.getrandbits(48):x}", compare=False)


def result_fields(result: ResultInfo, members: Json) -> dict[str, Any]:
    """The fields of an operation's result: its `resultInfo`, and the result members that its handler set."""
    fields: dict[str, Any] = {"result_info": result}
    if members:
        fields["results"] = dict(members)
    return fields


def make_change(
    transition: Transition,
    seen: Record,
    stage: Stage,
    *,
    delay: float = 0.0,
    timestamp_field: str = "",
    lease_ran_out: bool = False,
    revision: int | None = None,
    attempt_result: ResultInfo | str | None = None,
    **fields: Any,
) -> Change:
    """Make the change, with an entry for the history if it ends an attempt that did not succeed.

    `attempt_result` is what the history stores of this attempt: a result, or a text that says why the attempt ended.
    Without it, the history stores the operation's `result_info`. Raises IllegalTransition.
    """
    sources, targets = TRANSITIONS[transition]
    if seen.stage not in sources or stage not in targets:
        raise IllegalTransition(f"{transition}: {seen.stage} → {stage} is not a transition (operation {seen.id})")
    entry = None
    if seen.stage is Stage.RUNNING and transition in _ENDINGS:
        entry = _entry(transition, seen, attempt_result or fields.get("result_info"))
        if stage in _GOES_ON and "charged" not in fields:
            entry["uncharged"] = True
    return Change(transition, seen, stage, fields, delay, timestamp_field, lease_ran_out, revision, entry)


_ENDINGS = frozenset({Transition.FAIL, Transition.RETRY, Transition.HAND_BACK, Transition.LOSE, Transition.CANCEL})
"""Transitions that end an attempt without success. Only these are kept in the history."""
_GOES_ON = frozenset({Stage.QUEUED, Stage.DELAYED})
"""Stages after which the operation has another attempt."""


def _entry(transition: Transition, seen: Record, result: ResultInfo | str | None) -> Json:
    ended: Json = {}
    if isinstance(result, ResultInfo):
        ended = {"code": result.code, "message": result.message}
    elif result is not None:
        ended = {"message": result}
    return {"attempt": seen.attempt, "worker": seen.worker, "started": seen.began, "outcome": transition.value, **ended}
