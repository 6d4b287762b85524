"""The kinds of operations in the load, and what the checker knows of each. Imports nothing of the tracker's."""

from collections.abc import Mapping
from dataclasses import dataclass

SPARE = 20
"""Attempts of the kinds that are to end well however many of their workers are killed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for the operations of one type; `weight` is their share in the load.

    `code` is the `resultInfo` code they end with when nobody interferes, `seconds` the range from which the length
    of one attempt is drawn. `serial` ones run one after another within their call, and of a kind with a `cap` no
    more than that at once. `prompt` means that nothing but the lack of a worker keeps one of them waiting.
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
    "#chaos.long": Kind(weight=4, seconds=(20.0, 20.0)),
    "#chaos.function": Kind(weight=14, seconds=(0.0, 0.3), prompt=False),
    "#chaos.cpu": Kind(weight=4, seconds=(0.05, 0.3), prompt=False),
    "#chaos.stumbling": Kind(weight=6),
    "#chaos.failing": Kind(weight=6, code=500, attempts=3),
    "#chaos.rejected": Kind(weight=4, code=400),
    "#chaos.late": Kind(weight=2, code=408, seconds=(60.0, 60.0), attempts=2),
    "#chaos.serial": Kind(weight=14, seconds=(0.1, 0.8), serial=True, prompt=False),
    "#chaos.capped": Kind(weight=6, seconds=(0.3, 1.5), cap=2, prompt=False),
    "#chaos.rated": Kind(weight=4, prompt=False),
}
