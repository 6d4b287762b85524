"""The hosts of one worker: how many attempts they can take, and when they are replaced."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from tracker.runtime.processes import Backoff
from workers.fork_limits import limit_of
from workers.fork_server import ForkServer, HostNotStarted
from workers.frames import Message
from workers.host import Death, Host, HostKind
from workers.pool_member import Member

log = structlog.get_logger()

FIRST_RESTART_DELAY, MAX_RESTART_DELAY = 0.1, 5.0
"""Time before a host that died is replaced, in seconds.

The first death in a row causes no delay. The second causes twice FIRST_RESTART_DELAY, and each further death doubles
that, up to MAX_RESTART_DELAY. A host that finishes an operation ends the row. A fork that fails is tried again after
the same delays, beginning with FIRST_RESTART_DELAY.
"""
_RESTART = Backoff(FIRST_RESTART_DELAY, MAX_RESTART_DELAY)
PREFETCH_SECONDS = 0.02
"""A host gets as many plain functions at once as probably take this long together, in seconds."""
MAX_PREFETCH = 16
"""How many plain functions a host gets at once, at most."""
HOST_END_TIMEOUT = 5.0
"""The longest time that a host may take to run its stop hooks and end, in seconds. Then it is killed."""
APART_TRIES = 8
"""How many times at most the start of a host for one attempt is tried. With the delays above that takes 11 s."""
WEIGHT_OF_SLOWER, WEIGHT_OF_FASTER = 0.5, 0.05
"""Weights of a function's time in the moving average, for one slower and for one faster than the average.

The weight of slower ones is large: a function must not wait behind a long one in its host while other hosts are free.
"""
_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many attempts a worker runs at once, and when it replaces a host."""

    concurrency: int
    """How many coroutines run at once, at most."""
    processes: int
    """How many plain functions run at once, at most. Each has a host of its own."""
    recycle_after: int = 1000
    """After how many attempts a host of plain functions is replaced."""
    memory_limit: int = 0
    """Above how many bytes of memory a host is replaced. 0 means no limit."""
    apart: int = 1
    """How many attempts run apart from others at once, at most. Each has a host of its own, which runs nothing else."""
    tenant_most: int = 90
    """How many per cent of the slots of a kind one tenant takes at most, if there are several tenants."""


class PoolRoom(NamedTuple):
    """How many attempts can start now: coroutines, plain functions, and attempts of both kinds that run apart."""

    coroutines: int
    functions: int
    apart: int


class Pool:
    """Keeps one host for all coroutines, and one for each plain function that runs at once.

    Hosts of a kind that no type needs are not started. `on_message` gets every message of every host. `on_death` is
    called when a host has died, `on_room` whenever there may be more room.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        size: PoolSize,
        kinds: set[HostKind],
        *,
        on_message: Callable[[Message], None],
        on_death: Callable[[Host, Death], None],
        on_room: Callable[[], None],
    ) -> None:
        self._fork_server, self._on_message, self._on_death, self._on_room = fork_server, on_message, on_death, on_room
        self._size = size
        self._wanted = {
            HostKind.COROUTINE: 1 if HostKind.COROUTINE in kinds and size.concurrency else 0,
            HostKind.FUNCTION: size.processes if HostKind.FUNCTION in kinds else 0,
        }
        self._members: dict[Host, Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaths_in_a_row = 0
        self._function_seconds = PREFETCH_SECONDS
        """Moving average of the time that plain functions take."""
        self._apart = 0
        """How many attempts run apart, or have a host that has not ended yet."""
        self._closing = False
        self.fork_error = ""
        """Why the system refused the last host; empty when it did not."""
        self.start_error = ""
        """How the last host ended before it was ready; empty when it did not."""

    async def open(self) -> None:
        """Start the hosts. A host that the system refuses is started later."""
        await asyncio.gather(*(self._start_host(kind) for kind, count in self._wanted.items() for _ in range(count)))

    def room(self) -> PoolRoom:
        """How many attempts can start now.

        Short plain functions are prefetched: each host gets several at once. Plain code would give it one at a time,
        and the host would mostly wait for the next. Then an attempt costs four times the processor time
        (benchmarks/workers.py: tracker-functions, noop).
        """
        coroutines, functions = 0, 0
        for member in self._members.values():
            if member.apart:
                continue
            if member.host.kind is HostKind.COROUTINE:
                coroutines += (0 if member.retired else self._size.concurrency) - member.running
            elif not member.retired:
                functions += max(0, self.functions_per_host() - member.running)
        return PoolRoom(max(0, coroutines), functions, max(0, self._size.apart - self._apart))

    def functions_per_host(self) -> int:
        """How many plain functions a host may have at once, by the time that they have taken lately."""
        return max(1, min(MAX_PREFETCH, int(PREFETCH_SECONDS / max(self._function_seconds, _MICROSECOND))))

    def acquire(self, kind: HostKind, among: Collection[Host] | None = None) -> Host | None:
        """The host that takes one more attempt, with the fewest `among` these. None when no host is alive."""
        members = [each for each in self._members.values() if each.host.kind is kind and not each.retired]
        allowed = members if among is None else [each for each in members if each.host in among]
        member = min(allowed or members, key=lambda each: each.running, default=None)
        if member is None:
            return None
        member.running += 1
        return member.host

    def start_apart(self, kind: HostKind, on_host: Callable[[Host | None], None]) -> None:
        """Start a host that runs one attempt and then ends. `on_host` gets the host.

        It gets None if no process could be started within APART_TRIES, or if the fork server has died.
        """
        self._apart += 1
        self._in_background(self._start_apart(kind, on_host))

    async def _start_apart(self, kind: HostKind, on_host: Callable[[Host | None], None]) -> None:
        for failures in range(1, APART_TRIES + 1):
            try:
                host = await self._fork_server.start_host(kind, self._on_message)
            except ConnectionError:
                break
            except OSError as error:
                delay = _RESTART.delay(failures) if failures < APART_TRIES else 0.0
                self._note_error(kind, error, delay)
                await asyncio.sleep(delay)
            else:
                self._add(Member(host, running=1, retired=True, apart=True))
                on_host(host)
                return
        self._apart -= 1
        on_host(None)

    def release(self, host: Host, seconds: float) -> None:
        """Note that an attempt of the host has ended, `seconds` after its handler began."""
        member = self._members.get(host)
        if host.kind is HostKind.FUNCTION and not (member and member.apart):
            slower = seconds > self._function_seconds
            weight = WEIGHT_OF_SLOWER if slower else WEIGHT_OF_FASTER
            self._function_seconds += (seconds - self._function_seconds) * weight
        if member is None:
            return
        member.running -= 1
        member.completed += 1
        self._deaths_in_a_row = 0
        if member.retired:
            self._end_if_idle(member)
        elif host.kind is HostKind.FUNCTION and member.completed >= self._size.recycle_after:
            self.retire(host, "recycled")
        self._on_room()

    def retire(self, host: Host, reason: str) -> None:
        """Replace a host now. It gets no more attempts, and ends when those it has are over."""
        member = self._members.get(host)
        if member is None or member.retired:
            return
        log.info("host_retired", pid=host.pid, kind=host.kind, reason=reason, operations=member.completed)
        member.retired = True
        self._end_if_idle(member)
        self._in_background(self._start_host(host.kind))

    def is_apart(self, host: Host) -> bool:
        """Whether the host runs one attempt and then ends."""
        member = self._members.get(host)
        return member is not None and member.apart

    def replace_stuck(self, host: Host) -> None:
        """Replace a host because one of its handlers did not stop. The host is killed after its other attempts."""
        self.retire(host, "stuck")
        if (member := self._members.get(host)) is not None:
            member.running -= 1
            member.stuck = True
            self._end_if_idle(member)

    def check_memory(self) -> None:
        """Retire the hosts that take more memory than the limit."""
        if self._size.memory_limit:
            for host in list(self._members):
                if host.rss() > self._size.memory_limit:
                    self.retire(host, "memory")

    async def close(self) -> None:
        """Stop replacing hosts, and end those that run nothing: their stop hooks run.

        The fork server kills the hosts that are left after HOST_END_TIMEOUT.
        """
        self._closing = True
        idle = [member.host for member in self._members.values() if not member.running]
        for host in idle:
            host.finish()
        if idle:
            await asyncio.wait([host.death for host in idle], timeout=HOST_END_TIMEOUT)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_if_idle(self, member: Member) -> None:
        if member.running:
            return
        if member.stuck:
            member.host.kill()
        else:
            member.host.finish()
            self._in_background(self._kill_if_late(member.host))

    @staticmethod
    async def _kill_if_late(host: Host) -> None:
        """Kill a host that does not end: for example one of its stop hooks hangs."""
        await asyncio.wait({host.death}, timeout=HOST_END_TIMEOUT)
        if not host.death.done():
            log.warning("host_not_ended", pid=host.pid, kind=host.kind)
            host.kill()

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        if not self._closing:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            work.close()

    async def _start_host(self, kind: HostKind, failures: int = 0) -> None:
        """Start a host. If the system refuses a process, try again later, in the background."""
        try:
            host = await self._fork_server.start_host(kind, self._on_message)
        except ConnectionError:
            return  # the fork server has died, and the manager stops
        except OSError as error:
            self._in_background(self._start_later(kind, failures + 1, error))
            return
        self._add(Member(host))
        self._on_room()

    def _add(self, member: Member) -> None:
        self.fork_error = self.start_error = ""
        self._members[member.host] = member
        self._in_background(self._replace_when_dead(member))

    async def _start_later(self, kind: HostKind, failures: int, error: OSError) -> None:
        delay = _RESTART.delay(failures)
        self._note_error(kind, error, delay)
        await asyncio.sleep(delay)
        await self._start_host(kind, failures)

    def _note_error(self, kind: HostKind, error: OSError, delay: float) -> None:
        if isinstance(error, HostNotStarted):
            self.start_error = str(error)
            log.error("host_not_started", kind=kind, reason=self.start_error, again_in=delay)
        else:
            self.fork_error = limit_of(error)
            log.error("fork_failed", kind=kind, limit=self.fork_error, again_in=delay)

    async def _replace_when_dead(self, member: Member) -> None:
        """Wait for the host's death, tell the executor, and start another host unless this one was retired."""
        death = await asyncio.shield(member.host.death)
        self._members.pop(member.host, None)
        self._apart -= member.apart
        self._on_death(member.host, death)
        self._on_room()
        if not death.expected:
            log.warning("host_died", pid=death.pid, kind=member.host.kind, exit_code=death.exit_code)
        if member.retired or self._closing:
            return
        if not death.expected:
            deaths, self._deaths_in_a_row = self._deaths_in_a_row, self._deaths_in_a_row + 1
            await asyncio.sleep(_RESTART.delay(deaths + 1) if deaths else 0)
        await self._start_host(member.host.kind)
