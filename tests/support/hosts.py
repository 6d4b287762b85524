"""A client of hosts in the place of a worker: it starts hosts, sends them attempts, and keeps their messages."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.waiting import soon
from tracker.domain.operation import Json
from workers.fork_server import ForkServer
from workers.frames import AttemptEnded, Message, ProgressReport, RunAttempt
from workers.host import Death, Host, HostKind

COROUTINE, FUNCTION = HostKind.COROUTINE, HostKind.FUNCTION
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def as_json(message: ProgressReport | AttemptEnded) -> Json:
    """A message as a JSON object, with the name of its outcome."""
    if isinstance(message, ProgressReport):
        return {"ref": message.run_id, "progress": message.percent, "detail": message.detail}
    fields = message.outcome._asdict()
    if "result" in fields:
        fields["result"] = fields["result"].model_dump()
    name = {"RetryRequested": "retry"}.get(type(message.outcome).__name__, type(message.outcome).__name__.lower())
    return {"ref": message.run_id, "outcome": name, "rss": fields.pop("peak_rss"), **fields}


class HostClient:
    """Starts hosts of one fork server. `messages` has what they sent, by the attempt's reference number."""

    def __init__(self, fork_server: ForkServer) -> None:
        self.fork_server = fork_server
        self.messages: dict[int, list[Json]] = {}
        self._changed = asyncio.Condition()
        self._notifications: set[asyncio.Task[None]] = set()
        self._ref = 0

    async def host(self, kind: HostKind) -> Host:
        return await soon(self.fork_server.start_host(kind, self.receive))

    def receive(self, message: Message) -> None:
        assert isinstance(message, ProgressReport | AttemptEnded)
        self.messages.setdefault(message.run_id, []).append(as_json(message))
        task = asyncio.ensure_future(self._notify())
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def start(self, host: Host, name: str, **members: Any) -> int:
        """Send an attempt to a host; its reference number."""
        self._ref += 1
        host.run(RunAttempt(self._ref, f"#hosts.{name}", f"op-{self._ref}", "call", 2, "a key", members, "mine"))
        return self._ref

    async def until(self, check: Callable[[], Any]) -> None:
        async with self._changed:
            await soon(self._changed.wait_for(check))

    async def first_message(self, ref: int) -> Json:
        """The attempt's first message."""
        await self.until(lambda: self.messages.get(ref))
        return self.messages[ref][0]

    async def outcome(self, ref: int) -> Json:
        await self.until(lambda: "outcome" in (self.messages.get(ref) or [{}])[-1])
        return self.messages[ref][-1]

    async def run(self, host: Host, name: str, **members: Any) -> Json:
        return await self.outcome(self.start(host, name, **members))

    def outcomes(self) -> list[str]:
        return [line["outcome"] for lines in self.messages.values() for line in lines if "outcome" in line]


async def death(host: Host) -> Death:
    return await soon(asyncio.shield(host.death))
