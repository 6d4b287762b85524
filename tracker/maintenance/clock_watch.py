"""The watch over the server's clock. A jump of that clock must not end an operation.

All times that scripts compare are the server's. When its clock jumps, after a suspend or by NTP, leases seem to have
run out although their workers renew them, or seem valid for an hour after their worker has died. Every process that may
sweep compares the server's clock with its own monotonic clock each second. The first one that notices a jump notes it
in Redis: then no lease is judged until workers had the time to renew theirs. Times that count from a moment before the
jump (delays of retries, deadlines for a first attempt) are shifted with the clock. So is the end of a retention that
the jump would have reached.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from tracker.domain.operation import SECOND
from tracker.store.scripts import answering
from tracker.store.store import LEASE

if TYPE_CHECKING:
    from tracker.store.store import Store

log = structlog.get_logger()

TOLERANCE: Final = 0.5
"""The largest change between two looks that is no jump, in seconds. A lease outlasts many of them."""
MOST_SHIFTED: Final = 200_000
"""How many times of each kind are shifted after a jump at most."""
SHIFTED_TOGETHER: Final = 500
"""How many times one script shifts."""


@dataclass(slots=True)
class Shift:
    """Times that are to be shifted after a jump. All numbers are in microseconds.

    * `jump`: the length of the jump, negative for a jump back.
    * `now`: the server's time when the jump was noticed.
    * `since`: the earliest time after the jump. What was set from then on is right already.
    * `entries`: for each time the kind of its sorted set, its operation and its score. None before they are read.
    """

    jump: int
    now: int
    since: int
    entries: list[tuple[str, str, str]] | None = None


class ClockWatch:
    """Compares the server's clock with the monotonic clock of this process."""

    def __init__(self, store: "Store", *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self.monotonic = store, monotonic
        self._ahead: tuple[float, float] | None = None
        """The server's time minus this process's, in seconds: the least and the greatest value that it can have."""
        self._sum = 0
        """The sum of all jumps that was noted when the clocks were last compared, in microseconds."""
        self._sweeps = 0
        """In how many seconds there was a sweep, when the clocks were last compared by `look`."""
        self._compared = monotonic()
        """When the clocks were last compared, by the clock of this process."""
        self._shifts: list[Shift] = []

    async def look(self) -> bool:
        """Compare the clocks. Returns whether the server's has jumped. Raises Unavailable while Redis is away.

        A shift that an outage has interrupted goes on.
        """
        before = self.monotonic()
        async with answering(), self._store.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(self._store.keys.judge_after)
            pipe.get(self._store.keys.sweeps)
            (seconds, micros), note, sweeps = await pipe.execute()
        jumped = await self.compare(seconds + micros / SECOND, before)
        if not jumped:
            self._sum = int(str(note or "0 0").split()[1])
        self._sweeps = int(str(sweeps or "0").split()[0])
        await self._finish_shifts()
        return jumped

    async def compare(self, server_time: float, asked: float) -> bool:
        """Compare the clocks by a reply with the server's time. `asked` is when this process asked for it.

        Returns whether the server's clock has jumped since the last comparison. Raises Unavailable while Redis is away:
        then the jump is noticed again.
        """
        now = self.monotonic()
        ahead = (server_time - now, server_time - asked)
        jump = _jump(self._ahead, ahead)
        if jump:
            log.warning("clock_jumped", seconds=round(jump, 3), judged_again_after=LEASE)
            noted, time_now, left = await self._store.clock_jumped(
                jump=round(jump * SECOND),
                known=self._sum,
                counted=self._sweeps,
                passed=round((now - self._compared) * SECOND),
                lease=round(LEASE * SECOND),
            )
            self._sum = int(noted)
            if int(left):  # no other process has noted it
                since = int(time_now) - round((now - self._compared) * SECOND)
                self._shifts.append(Shift(int(left), int(time_now), since))
        self._ahead, self._compared = ahead, asked
        if jump:
            await self._finish_shifts()
        return bool(jump)

    async def _finish_shifts(self) -> None:
        while self._shifts:
            shift = self._shifts[0]
            if shift.entries is None:
                shift.entries = await self._read(shift)
                log.info("times_shifted", times=len(shift.entries), seconds=round(shift.jump / SECOND, 3))
            while shift.entries:
                words = [word for entry in shift.entries[:SHIFTED_TOGETHER] for word in entry]
                await self._store.shift_times(jump=shift.jump, since=shift.since, entries=words)
                del shift.entries[:SHIFTED_TOGETHER]
            self._shifts.pop(0)

    async def _read(self, shift: Shift) -> list[tuple[str, str, str]]:
        """The times that may have to be shifted. The script looks at each of them."""
        keys = self._store.keys
        passed = {keys.expiries: (shift.now - shift.jump, shift.now)}  # later retentions only end earlier or later
        entries: list[tuple[str, str, str]] = []
        for name, key in (("due", keys.due), ("deadlines", keys.deadlines), ("expiries", keys.expiries)):
            first, last = passed.get(key, ("-inf", "+inf"))
            async with answering():
                found: list[Any] = await self._store.redis.zrange(
                    key, first, last, byscore=True, offset=0, num=MOST_SHIFTED, withscores=True
                )
            entries += [(name, str(member), f"{score:.0f}") for member, score in found]
        return entries


def _jump(before: tuple[float, float] | None, after: tuple[float, float]) -> float:
    """The length of a jump in seconds; 0 if there was none.

    The arguments say how far the server's clock was ahead at two moments: the least and the greatest possible value. A
    slow reply makes the two values differ much.
    """
    if before is None:
        return 0.0
    forward, back = after[0] - before[1], before[0] - after[1]
    if max(forward, back) <= TOLERANCE:
        return 0.0
    return forward if forward > 0 else -back
