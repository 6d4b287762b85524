"""HTTP load generator that takes little processor time: it sends prepared bytes on connections that are kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple, cast

from benchmarks.processes import cpu_time
from benchmarks.ratios import NotMeasured

WARM_UP = 0.3
"""Seconds of load before the time runs."""
END_WITHIN = 30.0
"""The longest time in seconds for the last requests."""
_NO_BODY = {204, 304}
_END, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length: "

Step = Callable[[], Awaitable[object]]


class Refused(NotMeasured):
    """An answer with another status than expected, or a connection that the server closed. The message says which."""


class Answer(NamedTuple):
    """An answer: its status, all bytes before its body, and its body."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The value of a header. The name is given in lower case."""
        start = self.head.lower().find(b"\r\n" + name + b": ")
        return b"" if start < 0 else self.head[start + len(name) + 4 :].partition(b"\r\n")[0]


class Channel(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0
        self._answer: asyncio.Future[Answer] | None = None
        self._status, self._head = 0, b""

    @classmethod
    async def open(cls, port: int) -> "Channel":
        """Connect to a server on 127.0.0.1."""
        return (await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for requests."""
        # uvloop's transport has the methods of asyncio.Transport, but not its class.
        self._transport = cast("asyncio.Transport", transport)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def ask(self, request: bytes, expected: int) -> "asyncio.Future[Answer]":
        """Send a request and return its answer. Raises Refused when the answer has another status."""
        self._answer = asyncio.get_running_loop().create_future()
        self._expected = expected
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._parts.append(data)
        self._missing -= len(data)
        if self._head:
            if self._missing <= 0:
                self._finish()
            return
        whole = b"".join(self._parts)
        head, end, body = whole.partition(_END)
        if end:
            self._status, self._head = int(head[9:12]), head
            length = 0 if self._status in _NO_BODY else int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0])
            self._parts, self._missing = [body], length - len(body)
            if self._missing <= 0:
                self._finish()

    def _finish(self) -> None:
        answer = Answer(self._status, self._head, b"".join(self._parts))
        self._parts, self._head = [], b""
        assert self._answer is not None
        if answer.status == self._expected:
            self._answer.set_result(answer)
        else:
            self._answer.set_exception(Refused(f"{answer.status} {answer.body[:300].decode(errors='replace')}"))

    def connection_lost(self, _: Exception | None) -> None:
        """Raise Refused where the answer is awaited."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Refused("the server closed the connection"))


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of some seconds of load: the time of each step in seconds, and processor seconds by process name."""

    times: Sequence[float]
    seconds: float
    cpu: Mapping[str, float] = field(default_factory=dict)
    operations: int = 1
    """How many operations one step does."""

    @property
    def rate(self) -> float:
        """Operations per second."""
        return len(self.times) * self.operations / self.seconds

    def cost(self, name: str) -> float:
        """Processor microseconds per operation."""
        return self.cpu[name] * 1e6 / (len(self.times) * self.operations)

    def share(self, name: str) -> float:
        """The share of one core that the process used."""
        return self.cpu[name] / self.seconds


async def drive(
    steps: Sequence[Step], *, seconds: float, watched: Mapping[str, int], warm_up: float = WARM_UP, operations: int = 1
) -> Burst:
    """Repeat all steps at the same time for `seconds`. Raises Refused.

    `watched` maps names to the pids whose processor time is measured. This process's own has the name `load`.
    """
    times: list[float] = []
    stopping = asyncio.Event()

    async def repeat(step: Step) -> None:
        while not stopping.is_set():
            begun = time.perf_counter()
            await step()
            times.append(time.perf_counter() - begun)

    tasks = {asyncio.create_task(repeat(step)) for step in steps}
    try:
        await _pass(tasks, warm_up)
        before, first, begun = _cpu(watched), len(times), time.perf_counter()
        await _pass(tasks, seconds)
        # On a busy machine no step may end in `seconds`.
        while len(times) == first and time.perf_counter() - begun < END_WITHIN:
            await _pass(tasks, seconds)
        took, last, after = time.perf_counter() - begun, len(times), _cpu(watched)
        stopping.set()
        if (await asyncio.wait(tasks, timeout=END_WITHIN))[1]:
            raise Refused(f"a step was not done within {END_WITHIN:.0f} s")
        await asyncio.gather(*tasks)
        if first == last:
            raise Refused(f"nothing was done within {took:.0f} s")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Burst(times[first:last], took, {name: after[name] - before[name] for name in after}, operations)


async def _pass(tasks: set["asyncio.Task[None]"], seconds: float) -> None:
    """Wait for `seconds`. Raises the error of a task that fails in that time."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _cpu(watched: Mapping[str, int]) -> dict[str, float]:
    return {"load": time.process_time()} | {name: cpu_time(pid) for name, pid in watched.items()}


async def load(
    port: int,
    requests: Sequence[bytes],
    *,
    expected: int,
    connections: int,
    seconds: float,
    watched: Mapping[str, int],
    operations: int = 1,
) -> Burst:
    """Send the requests in turns, again and again, on `connections` connections. Raises Refused."""
    turns = cycle(requests)
    channels = [await Channel.open(port) for _ in range(connections)]
    try:
        steps = [lambda channel=channel: channel.ask(next(turns), expected) for channel in channels]
        return await drive(steps, seconds=seconds, watched=watched, operations=operations)
    finally:
        for channel in channels:
            channel.close()


def request(method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
