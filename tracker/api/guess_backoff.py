"""Back-off for addresses that guess tokens."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 60.0
"""Seconds in which the wrong tokens of an address are counted, and for which a slowed address is remembered after."""
LONGEST: Final = 300.0
"""The longest time, in seconds, that an address is told to wait."""
MOST_ADDRESSES: Final = 10_000
"""How many addresses are remembered at most. The one whose last wrong token is the longest ago is forgotten first."""


@dataclass(slots=True)
class _Guesses:
    """The wrong tokens of one address."""

    forget_at: float
    count: int = 0
    wait: float = 0.0
    """How long the address was told to wait the last time; 0 as long as it is not slowed down."""
    wait_until: float = 0.0


class GuessBackoff:
    """Counts wrong tokens by address, and says how long an address that sends many of them must wait.

    The first wait is one second. A wrong token after a wait doubles the next one. An address without a wrong token for
    WINDOW after its last wait starts anew. Each count takes the same little time, however many addresses there are.
    """

    def __init__(self, free: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._clock = free, clock
        self._by_address: OrderedDict[str, _Guesses] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._by_address)

    def note(self, address: str) -> int:
        """Count a wrong token. Returns how many seconds the address must wait; 0 if it is not slowed down."""
        now = self._clock()
        guesses = self._by_address.get(address)
        if guesses is None or now >= guesses.forget_at:
            guesses = self._by_address[address] = _Guesses(forget_at=now + WINDOW)
        self._by_address.move_to_end(address)
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        guesses.count += 1
        if guesses.count <= self._free:
            return 0
        if now >= guesses.wait_until:
            guesses.wait = min(LONGEST, guesses.wait * 2 or 1.0)
            guesses.wait_until = now + guesses.wait
            guesses.forget_at = guesses.wait_until + WINDOW
        return math.ceil(guesses.wait_until - now)
