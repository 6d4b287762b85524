"""The hosts of one worker: how many operations they can take, and new ones for those that are worn out or dead."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from tracker.domain.operation import Json
from tracker.runtime.processes import Backoff
from workers.fork_server import ForkServer
from workers.host import Death, Host, HostKind
from workers.outcome import oom_kills

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a host that died is replaced: doubled by each one that did not finish an operation, capped."""
AT_HAND = 0.02
"""Seconds of work, at most, that a host of plain functions has at hand."""
DEEPEST = 16
SLOWER, FASTER = 0.5, 0.05
"""How much the latest function's time counts when it was slower, or faster, than those before."""
MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How much a worker runs at once, and when a host is worn out.

    `concurrency` counts coroutines, `processes` plain functions. A host is replaced after `recycle_after`
    operations with plain functions, or when it takes more than `memory_limit` bytes; 0 is without limit.
    """

    concurrency: int
    processes: int
    recycle_after: int = 1000
    memory_limit: int = 0


@dataclass(slots=True, eq=False)
class _Place:
    """A host, and what it is doing."""

    host: Host
    kills_before: int
    busy: int = 0
    done: int = 0
    retired: bool = False
    stuck: bool = False


class Pool:
    """Keeps one host for coroutines, where there are such types, and one per process for plain functions.

    `on_death` is told of every host that died with what is known of it; `on_room` is called whenever there may be more
    room.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        size: PoolSize,
        kinds: set[HostKind],
        *,
        on_message: Callable[[Json], None],
        on_death: Callable[[Host, Death, int], None],
        on_room: Callable[[], None],
    ) -> None:
        self._fork_server, self._on_message, self._on_death, self._on_room = fork_server, on_message, on_death, on_room
        self._size = size
        self._wanted = {
            HostKind.COROUTINE: 1 if HostKind.COROUTINE in kinds and size.concurrency else 0,
            HostKind.FUNCTION: size.processes if HostKind.FUNCTION in kinds else 0,
        }
        self._places: dict[Host, _Place] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._deaths_in_a_row = 0
        self._took = AT_HAND
        """How long plain functions have taken lately, in seconds: soon taken for slow, late for fast."""
        self._closing = False

    async def open(self) -> None:
        """Start the hosts."""
        await asyncio.gather(*(self._add(kind) for kind, count in self._wanted.items() for _ in range(count)))

    def room(self) -> tuple[int, int]:
        """How many coroutines and how many plain functions can start now.

        While plain functions are very short, each host gets a few at once: fetching them one by one would take longer
        than running them.
        """
        coroutines, functions = 0, 0
        for place in self._places.values():
            if place.host.kind is HostKind.COROUTINE:
                coroutines += (0 if place.retired else self._size.concurrency) - place.busy
            elif not place.retired:
                functions += max(0, self._depth() - place.busy)
        return max(0, coroutines), functions

    def _depth(self) -> int:
        """How many plain functions a host may have at once."""
        return max(1, min(DEEPEST, int(AT_HAND / max(self._took, MICROSECOND))))

    def take(self, kind: HostKind) -> Host | None:
        """A host for one more operation; None when there is no room after all (a host died meanwhile)."""
        place = self._current(kind)
        if place is None:
            return None
        place.busy += 1
        return place.host

    def give_back(self, host: Host, took: float) -> None:
        """One operation of the host has ended, `took` seconds after it had begun, or had begun to wait for its turn."""
        if host.kind is HostKind.FUNCTION:
            self._took += (took - self._took) * (SLOWER if took > self._took else FASTER)
        if (place := self._places.get(host)) is None:
            return
        place.busy -= 1
        place.done += 1
        self._deaths_in_a_row = 0
        if place.retired:
            self._end_if_idle(place)
        elif host.kind is HostKind.FUNCTION and place.done >= self._size.recycle_after:
            self.retire(host, "recycled")
        self._on_room()

    def retire(self, host: Host, reason: str) -> None:
        """Give it no more operations and replace it; it ends when those it has are over."""
        place = self._places.get(host)
        if place is None or place.retired:
            return
        log.info("host_retired", pid=host.pid, kind=host.kind, reason=reason, operations=place.done)
        place.retired = True
        self._end_if_idle(place)
        self._start(self._add(host.kind))

    def write_off(self, host: Host) -> None:
        """Its handler did not end when it was asked to: replace the host, and kill it once the others are over."""
        self.retire(host, "stuck")
        if (place := self._places.get(host)) is not None:
            place.busy -= 1
            place.stuck = True
            self._end_if_idle(place)

    def weigh(self) -> None:
        """Retire hosts that take too much memory."""
        if self._size.memory_limit:
            for host in list(self._places):
                if host.rss() > self._size.memory_limit:
                    self.retire(host, "memory")

    async def close(self) -> None:
        """Stop replacing hosts. The fork_server ends them."""
        self._closing = True
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _current(self, kind: HostKind) -> _Place | None:
        open_ones = [place for place in self._places.values() if place.host.kind is kind and not place.retired]
        return min(open_ones, key=lambda place: place.busy, default=None)

    @staticmethod
    def _end_if_idle(place: _Place) -> None:
        if not place.busy:
            place.host.kill() if place.stuck else place.host.finish()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if not self._closing:
            task = asyncio.create_task(work)
            self._work.add(task)
            task.add_done_callback(self._work.discard)
        else:
            work.close()

    async def _add(self, kind: HostKind) -> None:
        try:
            host = await self._fork_server.host(kind, self._on_message)
        except ConnectionError:
            return  # the fork_server is gone, and its manager with it
        place = _Place(host, oom_kills())
        self._places[host] = place
        self._on_room()
        self._start(self._follow(place))

    async def _follow(self, place: _Place) -> None:
        """Wait for the host's death, tell of it, and replace it unless it was retired."""
        death = await asyncio.shield(place.host.died)
        self._places.pop(place.host, None)
        self._on_death(place.host, death, place.kills_before)
        self._on_room()
        if place.retired or self._closing:
            return
        if not death.asked:
            log.warning("host_died", pid=death.pid, kind=place.host.kind, exit_code=death.code)
            deaths, self._deaths_in_a_row = self._deaths_in_a_row, self._deaths_in_a_row + 1
            await asyncio.sleep(Backoff(FIRST_PAUSE, LONGEST_PAUSE).delay(deaths + 1) if deaths else 0)
        await self._add(place.host.kind)
