"""Latencies of an idle tracker beside a PING: `make bench`, or `python -m benchmarks.latency`.

The benchmark starts a private Valkey (`appendfsync always`), the API and one worker, and measures one operation after
another. The rows are

* PING: one PING of Redis.
* create, its Redis step alone: the script call of a create, on the connection of the PING.
* create over HTTP, read over HTTP: one request, on a connection that is kept.
* create to Running: the time from sending the POST to receiving the event that the attempt has begun.

Every row has the median and the 99th percentile in milliseconds, and the ratio of its median to the median of PING.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiohttp

from benchmarks.processes import running
from tracker.config import Settings, load
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.type_registry import COMMS_OPERATION
from tracker.events.feed import Event
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.store import Store

TRACKER = (sys.executable, "-m", "tracker.cli.main")
PATH = "/communications/calls/bench/operations"


async def measure(rounds: int, step: Callable[[], Awaitable[object]], *, rest: float = 0.0) -> list[float]:
    """Milliseconds of each round, after five rounds that do not count. `rest` is the pause between two in seconds."""
    times = []
    for number in range(rounds + 5):
        begun = time.perf_counter()
        await step()
        if number >= 5:
            times.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(rest)
    return times


def show(name: str, times: list[float], ping: float) -> None:
    """Print one line of the table."""
    times.sort()
    median, last = statistics.median(times), times[int(len(times) * 0.99) - 1]
    print(f"{name:32} p50 {median:8.3f} ms   p99 {last:8.3f} ms   {median / ping:7.1f} x PING", flush=True)


async def until_ready(http: aiohttp.ClientSession) -> None:
    """Wait until the API is ready. Exits after 10 s."""
    for _ in range(500):
        try:
            async with http.get("/readyz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.02)
    raise SystemExit("the API is not ready after 10 s")


async def main(rounds: int, settings: Settings) -> None:
    """Measure everything, one operation after another."""
    async with (
        running(*TRACKER, "serve", env={}),
        running(*TRACKER, "worker", env={}),
        open_redis(settings, most=1) as redis,
        open_redis(settings) as listener,
        listener.pubsub(ignore_subscribe_messages=True) as feed,
        aiohttp.ClientSession(f"http://{settings.host}:{settings.port}") as http,
    ):
        store = Store(redis, settings)
        await until_ready(http)
        await feed.subscribe(store.keys.events)

        async def create() -> str:
            async with http.post(PATH, json={}) as answer:
                assert answer.status == 201, await answer.text()
                return str((await answer.json())["id"])

        async def started() -> None:
            key = (await create()).replace("-", "")
            async with asyncio.timeout(10):
                while True:
                    message = await feed.get_message(timeout=10)
                    lines = message["data"].split("\n")[1:] if message else []
                    changes = (Event.read(line) for line in lines if line.startswith(key))
                    if any(event.attempt for event in changes):
                        return

        async def script() -> None:
            key = uuid4()
            await store.create(
                Record(key.hex, "bench", "bench", str(key), COMMS_OPERATION, digest=key.hex, policy=Policy())
            )

        starts = await measure(rounds // 2, started, rest=0.05)  # until the worker is idle again
        known = await create()

        async def read() -> None:
            async with http.get(f"{PATH}/{known}") as answer:
                await answer.read()

        reads = await measure(rounds, read)
        pings = await measure(rounds, redis.ping)
        scripts = await measure(rounds, script)
        creates = await measure(rounds, create)
        ping = statistics.median(pings)
        show("PING", pings, ping)
        show("create, its Redis step alone", scripts, ping)
        show("create over HTTP", creates, ping)
        show("read over HTTP", reads, ping)
        show("create to Running", starts, ping)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="operations per row (200)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = start_server(Path(directory))
        os.environ.update(REDIS_URL=server.url, TRACKER_AUTH="none", TRACKER_PORT="18099", TRACKER_LOG_LEVEL="warning")
        try:
            asyncio.run(main(arguments.rounds, load()))
        finally:
            server.stop()
