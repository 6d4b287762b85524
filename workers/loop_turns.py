"""Turns of the event loops of a worker's hosts, in memory that the manager and its hosts share.

Each host of coroutines notes there when its loop last took a turn. So the manager sees a loop that a handler blocks,
even if the handler also holds the interpreter lock, and no message from the host is needed.
"""

import mmap
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

from workers.host import Host

NO_SLOT = -1
"""The slot of a host that notes no turns."""
LEAST_LIMIT = 1.0
"""The least time after which a loop counts as blocked, in seconds. A host notes turns, and the blocker, less often."""
LONGEST_STEP = 0.5
"""How many seconds between two checks of the manager count as blocked at most.

After a longer time the manager itself did not run, for example because the system was suspended. Then the hosts did not
run either.
"""
_SLOT = struct.Struct("=dq")
_SLOTS = 2048
"""More than the hosts that a worker can have at once."""


class TurnBoard:
    """The shared memory: a slot for each host of coroutines. It is made before the first fork.

    A slot has the time of the last turn, by the clock that all processes of a system share, and the `run_id` of the
    attempt that blocks the loop; 0 if none does.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT.size)
        self._free = list(range(_SLOTS))

    def take_slot(self) -> int:
        """A slot for a new host; NO_SLOT if there is none left."""
        if not self._free:
            return NO_SLOT
        slot = self._free.pop()
        self.note(slot)
        return slot

    def free_slot(self, slot: int) -> None:
        """Give back the slot of a host that has ended."""
        if slot != NO_SLOT:
            self._free.append(slot)

    def note(self, slot: int, blocker: int = 0) -> None:
        """Note a turn of the loop just now, or with `blocker` the attempt that blocks the loop."""
        if slot == NO_SLOT:
            return
        turned = self.read(slot)[0] if blocker else time.monotonic()
        _SLOT.pack_into(self._memory, slot * _SLOT.size, turned, blocker)

    def read(self, slot: int) -> tuple[float, int]:
        """The time of the last turn, in seconds, and the `run_id` of the attempt that blocks the loop; 0 for none."""
        turned, blocker = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
        return turned, blocker


@dataclass(slots=True)
class _Seen:
    turned: float
    blocked: float = 0.0


class LoopWatch:
    """Finds the hosts whose loops have been blocked for longer than `limit` seconds. 0 means no limit."""

    def __init__(self, board: TurnBoard, limit: float) -> None:
        self._board, self._limit = board, max(limit, LEAST_LIMIT) if limit else 0.0
        self._seen: dict[Host, _Seen] = {}
        self._last_look = time.monotonic()

    def blocked(self, hosts: Iterable[Host]) -> list[tuple[Host, int]]:
        """The blocked ones of these hosts, each with the `run_id` of the attempt that blocks it; 0 if not known."""
        now = time.monotonic()
        step, self._last_look = min(now - self._last_look, LONGEST_STEP), now
        if not self._limit:
            return []
        before, self._seen = self._seen, {}
        found = []
        for host in hosts:
            if host.slot == NO_SLOT:
                continue
            turned, blocker = self._board.read(host.slot)
            seen = before.get(host)
            if seen is None or seen.turned != turned:
                seen = _Seen(turned)
            else:
                seen.blocked += step
            self._seen[host] = seen
            if seen.blocked > self._limit:
                found.append((host, blocker))
        return found

    def is_suspect(self, host: Host) -> bool:
        """Whether the loop has not turned for longer than a healthy one needs, and a limit is set."""
        seen = self._seen.get(host)
        return seen is not None and seen.blocked > LEAST_LIMIT / 2

    def blocker(self, host: Host) -> int:
        """The `run_id` of the attempt that blocks the loop now; 0 if not known."""
        return self._board.read(host.slot)[1]
