"""Table of the operation types in the load, for the load and the checker. It imports nothing from the tracker."""

from collections.abc import Mapping
from dataclasses import dataclass

SPARE = 20
"""How many attempts most types have: more than a run uses up, so that lost workers do not fail an operation."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Properties of one operation type.

    * `weight`: the type's share in the load.
    * `code`: the `resultInfo` code of an operation that no client cancels.
    * `seconds`: the range from which the length of an attempt is drawn.
    * `attempts`: how many attempts an operation has at most.
    * `serial`: whether the operations of a call run one after another.
    * `cap`: how many operations of the type run at once at most; 0 for no limit.
    * `prompt`: whether an operation waits for nothing but a free worker.
    """

    weight: int
    code: int = 200
    seconds: tuple[float, float] = (0.0, 0.05)
    attempts: int = SPARE
    serial: bool = False
    cap: int = 0
    prompt: bool = True


KINDS: Mapping[str, Kind] = {
    "#chaos.quick": Kind(weight=18),
    "#chaos.slow": Kind(weight=18, seconds=(1.0, 4.0)),
    "#chaos.long": Kind(weight=4, seconds=(10.0, 10.0)),
    "#chaos.function": Kind(weight=14, seconds=(0.0, 0.3), prompt=False),
    "#chaos.cpu": Kind(weight=4, seconds=(0.05, 0.3), prompt=False),
    "#chaos.stumbling": Kind(weight=6),
    "#chaos.failing": Kind(weight=6, code=500, attempts=3),
    "#chaos.rejected": Kind(weight=4, code=400),
    "#chaos.late": Kind(weight=2, code=408, seconds=(60.0, 60.0), attempts=2),
    "#chaos.serial": Kind(weight=14, seconds=(0.1, 0.8), serial=True, prompt=False),
    "#chaos.capped": Kind(weight=6, seconds=(0.3, 1.5), cap=2, prompt=False),
    "#chaos.poison": Kind(weight=2, code=503, attempts=2, prompt=False),
    "#chaos.rated": Kind(weight=4, prompt=False),
}
