"""Thousands of held requests on one process: `python -m benchmarks.waits [--waiters N] [--rate N] [--seconds N]`.

Starts a private Valkey (`appendfsync always`) and one `tracker serve`, lets N operations run, and holds a `Prefer:
wait=60` request to each, every one on a connection of its own. Then operations end at the rate; whoever is answered
waits for another at once, so that N always wait. Printed are

* the time from an operation's transition (its record's `completedDateTime`) to the last byte of the answer that tells
  of it, on the same machine's clock, and beside it the time to the message that tells of it, as a subscription of
  the benchmark's own hears it: the rest is the server's doing;
* what each waiter takes of the server's resident memory, beside a bare aiohttp handler that awaits a future and is
  asked with the same bytes in the same run;
* the server's connections to Redis, and its processor time while operations ended.

It needs 2 * N + some open files; the soft limit is raised to the hard one, and N lowered when that is not enough.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from benchmarks.processes import cpu_seconds, memory, running
from tracker.api.app import BACKLOG
from tracker.config import Settings, load
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.events.feed import Event
from tracker.runtime.background import run
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.keys import Keys
from tracker.store.script_replies import Room
from tracker.store.store import Store, pack

CALL = "bench"
OPENING = 128
"""Connections that are being opened at once."""
BATCH = 100
LEASE = 3600.0
"""Seconds; nobody beats."""
TICK = 0.02
"""Seconds between two batches of ends."""


class Held(asyncio.Protocol):
    """One connection with one request under way; its answers go to a queue, with the time at which they were there."""

    def __init__(self, answers: "asyncio.Queue[tuple[float, bytes, Held]]") -> None:
        self._answers, self._received = answers, b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect an answer, whose length its header says."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if found and len(body) >= length:
            self._received = b""
            self._answers.put_nowait((time.time(), body, self))

    def ask(self, operation: str) -> None:
        """Send the request that is held."""
        self.transport.write(
            f"GET /communications/calls/{CALL}/operations/{operation} HTTP/1.1\r\nHost: bench\r\n"
            "Prefer: wait=60\r\nAccept: application/json\r\n\r\n".encode()
        )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def serve_bare(port: int) -> None:
    """A handler that does nothing but wait."""

    async def handle(_: web.Request) -> web.Response:
        await asyncio.get_running_loop().create_future()
        return web.Response()

    app = web.Application()
    app.router.add_get("/communications/calls/{call_id}/operations/{operation_id}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
    await asyncio.Event().wait()


async def until_listening(port: int) -> None:
    """Wait until somebody answers there."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/healthz"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def operations(store: Store, count: int) -> list[Record]:
    """Operations that run."""
    room = Room(BATCH, 0, {canonical(COMMS_OPERATION): "coroutines"})
    started: list[Record] = []
    while len(started) < count:
        keys = [uuid4() for _ in range(BATCH)]
        records = (Record(k.hex, "default", CALL, str(k), COMMS_OPERATION, k.hex, policy=Policy()) for k in keys)
        await asyncio.gather(*(store.create(record) for record in records))
        claims = await store.claim("bench", room, batch=keys[0].hex, lease=LEASE)
        started += claims.started
    return started


@asynccontextmanager
async def holding(
    port: int, asked: Sequence[str], answers: "asyncio.Queue[tuple[float, bytes, Held]]"
) -> AsyncIterator[None]:
    """Held requests, one for each operation, each on its own connection."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(OPENING)
    held: list[Held] = []

    async def hold(operation: str) -> None:
        async with gate:
            _, one = await loop.create_connection(lambda: Held(answers), "127.0.0.1", port)
        held.append(one)
        one.ask(operation)

    await asyncio.gather(*(hold(operation) for operation in asked))
    try:
        yield
    finally:
        for one in held:
            one.transport.close()


async def settled(pid: int) -> None:
    """Wait until a process does nothing."""
    for _ in range(20):
        before = cpu_seconds(pid)
        await asyncio.sleep(0.5)
        if cpu_seconds(pid) - before <= 0.03:
            return


async def end(store: Store, running_ones: Sequence[Record], rate: int) -> None:
    """End operations at that rate, in small batches."""
    begun, done = time.monotonic(), 0
    while done < len(running_ones):
        due = min(len(running_ones), int((time.monotonic() - begun) * rate))
        if batch := running_ones[done:due]:
            await store.write([pack(lifecycle.succeed(record, DONE, {})) for record in batch])
            done = due
        await asyncio.sleep(TICK)


async def overhear(settings: Settings, count: int) -> list[float]:
    """Milliseconds from transition to message, of that many, on a subscription of the benchmark's own: the floor."""
    late: list[float] = []
    async with open_redis(settings) as redis, redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(Keys().events)
        while len(late) < count:
            message = await subscription.get_message(timeout=10)
            received = time.time() * 1e6
            lines = message["data"].split("\n")[1:] if message else []
            late += [(received - Event.read(line).changed) / 1000 for line in lines]
    return late


async def collect(
    answers: "asyncio.Queue[tuple[float, bytes, Held]]", next_ones: "deque[str]", count: int
) -> list[float]:
    """Milliseconds from transition to answer, of that many; whoever is answered waits for the next operation."""
    late: list[float] = []
    while len(late) < count:
        received, body, held = await answers.get()
        answer = json.loads(body)
        if answer["status"] == "Running":  # the time was up
            held.ask(answer["id"])
            continue
        late.append((received - datetime.fromisoformat(answer["completedDateTime"]).timestamp()) * 1000)
        held.ask(next_ones.popleft())
    return late


async def bare(waiters: int) -> tuple[float, float]:
    """Bytes that each waiter takes of the bare server, and the seconds until all were there."""
    port = free_port()
    async with running(sys.executable, "-m", "benchmarks.waits", "--bare", str(port), env={}) as server:
        await until_listening(port)
        before, begun = memory(server.pid).rss, time.monotonic()
        async with holding(port, [str(uuid4()) for _ in range(waiters)], asyncio.Queue()):
            opened = time.monotonic() - begun
            await settled(server.pid)
            return (memory(server.pid).rss - before) / waiters, opened


async def main(settings: Settings, waiters: int, rate: int, seconds: float) -> None:
    """Measure both, and print."""
    gc.disable()  # its pauses would count as the server's
    bare_bytes, bare_opened = await bare(waiters)
    ends = int(rate * seconds)
    answers: asyncio.Queue[tuple[float, bytes, Held]] = asyncio.Queue()
    async with (
        running(sys.executable, "-m", "tracker.cli.main", "serve", env={}) as server,
        open_redis(settings) as redis,
    ):
        await until_listening(settings.port)
        store = Store(redis, settings)
        records = await operations(store, waiters + ends)
        next_ones = deque(record.id for record in records)
        before = memory(server.pid).rss
        begun = time.monotonic()
        async with holding(settings.port, [next_ones.popleft() for _ in range(waiters)], answers):
            opened = time.monotonic() - begun
            await settled(server.pid)
            ours = (memory(server.pid).rss - before) / waiters
            feeds = len(await redis.client_list(_type="pubsub"))
            clients = len(await redis.client_list())
            spent, begun = cpu_seconds(server.pid), time.monotonic()
            async with asyncio.timeout(seconds * 4 + 20):
                late, heard, _ = await asyncio.gather(
                    collect(answers, next_ones, ends), overhear(settings, ends), end(store, records[:ends], rate)
                )
            took, spent = time.monotonic() - begun, cpu_seconds(server.pid) - spent
    print(f"{waiters:,} held at once, {ends / took:.0f} operations a second ended")
    print(f"asked within {opened:.1f} s; of a bare aiohttp handler: {bare_opened:.1f} s")
    show("transition to answer", late)
    show("transition to message", heard)
    print(f"memory per waiter: {ours / 1024:.1f} KiB; of a bare aiohttp handler: {bare_bytes / 1024:.1f} KiB")
    print(f"connections to Redis: {feeds} subscribed, {clients} in all, with the benchmark's own")
    print(f"the server's processor time while they ended: {spent / took * 100:.0f} % of one core")


def show(name: str, late: list[float]) -> None:
    """Print latencies."""
    late.sort()
    part = {name: late[min(len(late) - 1, int(len(late) * share))] for name, share in (("p50", 0.5), ("p99", 0.99))}
    figures = "   ".join(f"{name} {value:7.1f} ms" for name, value in part.items())
    print(f"{name + ':':24}{figures}   most {late[-1]:.1f} ms   ({len(late):,})")


def affordable(waiters: int) -> int:
    """As many as open files allow; raises the soft limit, which child processes get too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return waiters if hard == resource.RLIM_INFINITY else min(waiters, hard - 500)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiters", type=int, default=10_000, help="requests held at once (10000)")
    parser.add_argument("--rate", type=int, default=500, help="operations that end in a second (500)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds that operations end for (20)")
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        run(serve_bare(arguments.bare))
        sys.exit()
    with tempfile.TemporaryDirectory() as directory:
        valkey = start_server(Path(directory))
        os.environ.update(
            REDIS_URL=valkey.url, TRACKER_AUTH="none", TRACKER_PORT=str(free_port()), TRACKER_LOG_LEVEL="warning"
        )
        try:
            run(main(load(), affordable(arguments.waiters), arguments.rate, arguments.seconds))
        finally:
            valkey.stop()
