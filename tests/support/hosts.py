"""A client of hosts in the place of a worker: it starts hosts, sends them attempts, and keeps their messages."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.waiting import soon
from workers.fork_server import ForkServer
from workers.frames import AttemptEnded, AttemptRefused, Message, ProgressReport, RunAttempt
from workers.host import Death, Host, HostKind
from workers.outcome import Outcome

COROUTINE, FUNCTION = HostKind.COROUTINE, HostKind.FUNCTION
FAR_OFF = 1e12
"""A time of the monotonic clock that never comes."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


Sent = ProgressReport | AttemptRefused | AttemptEnded


class HostClient:
    """Starts hosts of one fork server. `messages` has what they sent about each attempt, by its run id."""

    def __init__(self, fork_server: ForkServer) -> None:
        self.fork_server = fork_server
        self.messages: dict[int, list[Sent]] = {}
        self._changed = asyncio.Condition()
        self._notifications: set[asyncio.Task[None]] = set()
        self._last_run_id = 0

    async def host(self, kind: HostKind) -> Host:
        return await soon(self.fork_server.start_host(kind, self.receive))

    def receive(self, message: Message) -> None:
        assert isinstance(message, Sent)
        self.messages.setdefault(message.run_id, []).append(message)
        task = asyncio.ensure_future(self._notify())
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def start(self, host: Host, name: str, *, begin_before: float = FAR_OFF, **members: Any) -> int:
        """Send an attempt to a host; its run id."""
        run_id = self._last_run_id = self._last_run_id + 1
        host.run(
            RunAttempt(run_id, f"#hosts.{name}", f"op-{run_id}", "call", 2, "a key", members, "mine", begin_before)
        )
        return run_id

    async def until(self, check: Callable[[], Any]) -> None:
        async with self._changed:
            await soon(self._changed.wait_for(check))

    async def first_detail(self, run_id: int) -> str:
        """The text of the attempt's first message, which is a progress report."""
        await self.until(lambda: self.messages.get(run_id))
        first = self.messages[run_id][0]
        assert isinstance(first, ProgressReport)
        return first.detail

    def details(self, run_id: int) -> list[str]:
        """The texts of all its progress reports."""
        return [message.detail for message in self.messages[run_id] if isinstance(message, ProgressReport)]

    async def outcome(self, run_id: int) -> Outcome:
        """The attempt's outcome, when it is there."""
        await self.until(lambda: any(isinstance(each, AttemptEnded) for each in self.messages.get(run_id, [])))
        last = self.messages[run_id][-1]
        assert isinstance(last, AttemptEnded)
        return last.outcome

    async def run(self, host: Host, name: str, **members: Any) -> Outcome:
        """Run an attempt to its outcome."""
        return await self.outcome(self.start(host, name, **members))

    def outcomes(self) -> list[Outcome]:
        return [each.outcome for sent in self.messages.values() for each in sent if isinstance(each, AttemptEnded)]


async def death(host: Host) -> Death:
    return await soon(asyncio.shield(host.death))
