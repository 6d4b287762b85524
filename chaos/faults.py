"""Injection of faults into the processes. Each round has each kind of fault once, in an order drawn from the seed."""

import asyncio
import os
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from time import monotonic
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaos.history import DAMAGE, FAULTS, JUMP
from chaos.hostile import FLOODER
from chaos.journal import EVENTS, Journal
from chaos.leases import LEASE, MERCY, TAKEN_OVER
from chaos.process import BEFORE_FORK, ORDERS
from chaos.stack import APIS, VALKEY, WORKERS, Stack, set_clock

if TYPE_CHECKING:
    from chaos.plan import Plan

POLL = 0.01
"""Seconds between two checks whether the killed server answers again."""
SERVER_FAULTS = ("kill valkey", "pause valkey", "refuse", "fill", "jump", "damage", "drop")
"""The beginnings of the faults of the server, of which one at a time lasts."""
QUIETLY = "kill worker"
"""The kind of fault that comes alone, so that the time until the worker's operations run again can be measured."""


class Faults:
    """Runs the faults one after another. A fault that lasts, such as a pause, continues beside the next faults."""

    def __init__(self, stack: Stack, plan: "Plan") -> None:
        self._stack, self._plan = stack, plan
        self._random = random.Random(f"{plan.seed} faults")
        self._journal = Journal(stack.directory / EVENTS)
        self._lasting: dict[str, asyncio.Task[None]] = {}
        self._ahead = 0.0
        """How far the server's clock is ahead of the true time, in seconds."""
        self.done = 0

    async def run(self) -> None:
        """Run faults until canceled. The caller then calls `end`."""
        while True:
            kinds = [kind for kind in FAULTS if self._plan.complete or kind != JUMP]  # a jump takes a lease
            for kind in self._random.sample(kinds, len(kinds)):
                quiet = self._plan.quiet and kind == QUIETLY
                if quiet:
                    await self._calm()
                    await asyncio.sleep(MERCY)
                await self._do(kind)
                self.done += 1
                await asyncio.sleep(self._random.uniform(0.5, 1.5) * self._plan.gap)
                if quiet:
                    await asyncio.sleep(TAKEN_OVER)

    async def end(self) -> None:
        """Wait for the faults that last, and remove the orders at failpoints that no process has reached."""
        await self._calm()
        for order in (self._stack.directory / ORDERS).iterdir():
            order.unlink(missing_ok=True)

    async def _calm(self) -> None:
        for what in tuple(self._lasting):
            await self._over(what)

    async def _do(self, kind: str) -> None:
        if kind.startswith(SERVER_FAULTS):
            await self._over(VALKEY)
            await self._do_at_server(kind)
            return
        match kind.split():
            case ["pause", _]:
                await self._over("worker")
                name = self._random.choice(WORKERS)
                self._begin("worker", self._pause("pause worker", name, self._plan.pause_worker))
            case ["kill", victim]:
                self._kill(kind, victim)
            case ["fail", "fork"]:
                (self._stack.directory / ORDERS / BEFORE_FORK).touch()
            case _:
                # No entry in the journal here: the process that reaches the failpoint writes the entry.
                (self._stack.directory / ORDERS / kind).touch()

    async def _do_at_server(self, kind: str) -> None:
        match kind.split():
            case ["kill", _]:
                self._begin(VALKEY, self._kill_valkey())
            case ["pause", _]:
                self._begin(VALKEY, self._pause(kind, VALKEY, self._plan.pause_valkey))
            case ["refuse", _]:
                user = ("ACL", "SETUSER", "default")
                self._begin(VALKEY, self._while(kind, (*user, "-evalsha"), (*user, "+evalsha")))
            case ["fill", _]:
                limit = ("CONFIG", "SET", "maxmemory")
                self._begin(VALKEY, self._while(kind, (*limit, "1"), (*limit, "0")))
            case ["jump", _]:
                self._begin(VALKEY, self._jump())
            case ["damage", _]:
                await self._damage()
            case ["drop", connections]:
                await self._drop(kind, connections)

    def _kill(self, kind: str, victim: str) -> None:
        names = self._random.sample(APIS if victim == "api" else WORKERS, len(APIS if victim == "api" else WORKERS))
        for name in names:
            pid = self._stack.pid(name)
            pids = [] if pid is None else _victims(pid, victim)
            if pids:
                self._send(SIGKILL, kind, name, self._random.choice(pids))
                return

    async def _kill_valkey(self) -> None:
        pid = self._stack.pid(VALKEY)
        if pid is None:
            return
        at = self._send(SIGKILL, "kill valkey", VALKEY, pid)
        while self._stack.pid(VALKEY) in {None, pid} or not self._stack.server.answers():  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        self._journal.write(event="over", kind="kill valkey", since=at, t=monotonic())

    async def _pause(self, kind: str, name: str, seconds: float) -> None:
        pid = self._stack.pid(name)
        if pid is None:
            return
        at = self._send(SIGSTOP, kind, name, pid)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._journal.write(event="over", kind=kind, since=at, t=monotonic())
            if self._stack.pid(name) == pid:
                os.kill(pid, SIGCONT)

    async def _drop(self, kind: str, connections: str) -> None:
        """Close connections at the server. An error is ignored: a server that does not answer has no connections."""
        async with Redis.from_url(self._stack.server.url, socket_timeout=1.0) as redis:
            with suppress(RedisError, OSError):
                await redis.client_kill_filter(_type=connections, skipme=True)
                self._journal.write(event="fault", kind=kind, target="", pid=0, t=monotonic())

    async def _while(self, kind: str, begin: Sequence[str], end: Sequence[str]) -> None:
        """Change a setting of the server for as long as a worker is paused."""
        async with Redis.from_url(self._stack.server.url, socket_timeout=1.0) as redis:
            at = monotonic()
            self._journal.write(event="fault", kind=kind, target=VALKEY, pid=0, t=at)
            with suppress(RedisError, OSError):
                await redis.execute_command(*begin)  # type: ignore[no-untyped-call]
            await asyncio.sleep(self._plan.pause_worker)
            with suppress(RedisError, OSError):  # a server that was started again has its own settings
                await redis.execute_command(*end)  # type: ignore[no-untyped-call]
            self._journal.write(event="over", kind=kind, since=at, t=monotonic())

    async def _jump(self) -> None:
        """Let the server's clock jump. No lease is judged for one lease after that."""
        at = monotonic()
        self._journal.write(event="fault", kind=JUMP, target=VALKEY, pid=0, t=at)
        self._ahead = self._random.choice([-1, 1]) * self._random.uniform(20, 3600) if not self._ahead else 0.0
        set_clock(self._stack.directory, self._ahead)
        await asyncio.sleep(LEASE + POLL)
        self._journal.write(event="over", kind=JUMP, since=at, t=monotonic())

    async def _damage(self) -> None:
        """Overwrite the record of an operation of the flooding tenant. The rules are about the other tenant."""
        async with Redis.from_url(self._stack.server.url, socket_timeout=1.0, decode_responses=True) as redis:
            with suppress(RedisError, OSError):
                for key in await redis.zrange("tracker:leases", 0, -1):
                    record = f"tracker:op:{key!s}"
                    if await redis.hget(record, "tenant") == FLOODER:
                        await redis.hset(record, mapping={"revision": "damaged", "policy": "["})
                        break
        self._journal.write(event="fault", kind=DAMAGE, target="", pid=0, t=monotonic())

    def _send(self, signum: Signals, kind: str, name: str, pid: int) -> float:
        at = monotonic()
        self._journal.write(event="fault", kind=kind, target=name, pid=pid, t=at)
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
        return at

    def _begin(self, what: str, fault: Coroutine[None, None, None]) -> None:
        self._lasting[what] = asyncio.create_task(fault)

    async def _over(self, what: str) -> None:
        if (fault := self._lasting.get(what)) is not None:
            await asyncio.wait([fault])
            fault.result()


def _victims(pid: int, victim: str) -> Sequence[int]:
    """The processes that a fault may kill, found from the pid of a supervised process.

    They are the process itself for `api` and `worker`, its children for `fork_server`, and their children for `host`.
    """
    if victim in {"api", "worker"}:
        return [pid]
    fork_servers = [*children(pid)]
    return fork_servers if victim == "fork_server" else [host for each in fork_servers for host in children(each)]


def children(pid: int) -> Iterator[int]:
    """The child processes of a process; none when the process has ended."""
    with suppress(OSError):  # the process has ended meanwhile
        for task in [*Path(f"/proc/{pid}/task").iterdir()]:
            with suppress(OSError):  # the thread has ended meanwhile
                yield from map(int, (task / "children").read_text().split())
