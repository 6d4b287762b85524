"""Held requests, each on a connection of its own, and the times at which their answers and the messages arrive."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from tracker.store.keys import Keys

CALL = "bench"
"""The call of all operations, as `in_tree/store_driver.py` names it."""
OPENING = 128
"""How many connections are opened at the same time."""


class Held(asyncio.Protocol):
    """A connection with one request. It puts each answer into a queue, with the time at which the answer was whole."""

    def __init__(self, answers: "Answers") -> None:
        self._answers, self._received = answers, b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for requests."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect an answer until it has the length that its header names."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if found and len(body) >= length:
            self._received = b""
            self._answers.put_nowait((time.time(), body, self))

    def ask(self, operation: str) -> None:
        """Send a request that is to be held."""
        self.transport.write(
            f"GET /communications/calls/{CALL}/operations/{operation} HTTP/1.1\r\nHost: bench\r\n"
            "Prefer: wait=60\r\nAccept: application/json\r\n\r\n".encode()
        )


Answers = asyncio.Queue[tuple[float, bytes, Held]]
"""The arrival of each answer in seconds since the epoch, its body, and its connection."""


@asynccontextmanager
async def holding(port: int, asked: Sequence[str], answers: "Answers") -> AsyncIterator[None]:
    """Hold a request for each operation, each on a connection of its own, while the body runs."""
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(OPENING)
    held: list[Held] = []

    async def hold(operation: str) -> None:
        async with slots:
            _, one = await loop.create_connection(lambda: Held(answers), "127.0.0.1", port)
        held.append(one)
        one.ask(operation)

    await asyncio.gather(*(hold(operation) for operation in asked))
    try:
        yield
    finally:
        for one in held:
            one.transport.close()


async def message_times(url: str, count: int) -> list[float]:
    """Milliseconds from the transition to its message, for `count` messages to a subscription of the benchmark."""
    late: list[float] = []
    async with Redis.from_url(url, decode_responses=True) as redis, redis.pubsub() as subscription:
        await subscription.subscribe(Keys().events)
        while len(late) < count:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=10)
            received = time.time() * 1e6
            lines = message["data"].split("\n")[1:] if message else []
            late += [(received - transition_time(line)) / 1000 for line in lines]
    return late


def transition_time(line: str) -> int:
    """The microseconds in a line of an event message: `key TAB callId TAB [revision,"stage",attempt,time,…]`."""
    return int(json.loads(line.split("\t", 2)[2])[3])


async def answer_times(answers: "Answers", next_ones: Iterator[str], count: int) -> list[float]:
    """Milliseconds from the transition to the answer, for `count` answers. Each connection then asks again."""
    late: list[float] = []
    while len(late) < count:
        received, body, held = await answers.get()
        answer = json.loads(body)
        if answer["status"] == "Running":  # the 60 s were over
            held.ask(answer["id"])
            continue
        late.append((received - datetime.fromisoformat(answer["completedDateTime"]).timestamp()) * 1000)
        held.ask(next(next_ones))
    return late
