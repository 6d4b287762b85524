"""What memory is needed: `python -m benchmarks.memory [--operations N]`, or `make bench-memory`.

* A worker's processes, idle and with 100 coroutine operations that wait: resident, and proportional, where what
  several share is counted once. Linux only.
* Redis, per finished operation: the difference of `used_memory` that N documented examples make, created as the API
  creates them and finished by a worker, when both have left. Which keys take it is by samples of MEMORY USAGE; what
  these do not account for are the server's own tables of keys and of lifetimes.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import operations
from benchmarks.processes import memory, running, tree
from tracker import log
from tracker.cli.dev_stack import EXAMPLE
from tracker.config import load
from tracker.domain.type_modules import load_types
from tracker.events.hub import EventHub
from tracker.runtime.dev_valkey import start_server
from tracker.service import Caller, Operations
from tracker.store.connection import open_redis
from tracker.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tracker.domain.operation import Json

TYPES = "benchmarks.operations"
CALLER = Caller("bench", "bench")
SAMPLES = 2000
"""Keys of a kind that are weighed, at most."""
BATCH = 500
"""Creates under way at once."""
WAITING = 100
"""Operations that wait at once, of which a worker's memory is shown."""
KINDS = {
    "record": ("tracker:op:",),
    "indexes": ("tracker:ids:", "tracker:call:", "tracker:expiries"),
    "attempt history (the last 10, as long as the record)": ("tracker:history:",),
    "events (a tenant's last 5,000 messages, a day at most)": ("tracker:feed:",),
    "idempotency (a day)": ("tracker:once:",),
    "RQ's": ("rq:",),
    "other": ("tracker:",),
}
"""Kinds of keys by their beginnings; the first that fits counts."""


def kind_of(key: str) -> str:
    """The kind that a key is of."""
    return next((kind for kind, beginnings in KINDS.items() if key.startswith(beginnings)), "other")


async def until(condition: Callable[[], Awaitable[bool]], limit: float) -> None:
    """Wait until the condition holds. Raises TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not await condition():  # noqa: ASYNC110 - only asking tells what another process has done
            await asyncio.sleep(0.2)


class Bench:
    """Operations on a private server, as the API has them."""

    def __init__(self, store: Store, service: Operations) -> None:
        self.store, self.redis, self._service = store, store.redis, service

    async def create(self, count: int, per_call: int, body: "Json") -> None:
        """Create that many operations, so many to a call."""
        for start in range(0, count, BATCH):
            numbers = range(start, min(count, start + BATCH))
            creates = (self._service.create(CALLER, f"call-{number // per_call}", dict(body)) for number in numbers)
            await asyncio.gather(*creates)

    async def finished(self, count: int) -> bool:
        """Whether so many have ended."""
        return int(await self.redis.zcard(self.store.keys.expiries)) >= count

    async def leased(self, count: int) -> bool:
        """Whether so many run."""
        return int(await self.redis.zcard(self.store.keys.leases)) == count

    async def used(self) -> int:
        """Bytes that the server uses."""
        return int((await self.redis.info("memory"))["used_memory"])

    async def by_kind(self) -> dict[str, float]:
        """Bytes of all keys of each kind, from the mean of a sample."""
        keys: dict[str, list[str]] = {kind: [] for kind in KINDS}
        async for key in self.redis.scan_iter(count=1000):
            keys[kind_of(key)].append(key)
        return {kind: await self._weigh(names) for kind, names in keys.items() if names}

    async def _weigh(self, names: list[str]) -> float:
        sample = names[:SAMPLES]
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in sample:
                pipe.memory_usage(name, samples=0)
            sizes = await pipe.execute()
        return sum(size or 0 for size in sizes) * len(names) / len(sample)


def worker() -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Start one worker as an operator does."""
    return running(sys.executable, "-m", "tracker.cli.main", "worker", env={})


def show_worker(title: str, root: int) -> None:
    """Print what each process of a worker takes."""
    weights = {pid: memory(pid) for pid in tree(root)}
    print(f"{title}: {len(weights)} processes, {sum(one.pss for one in weights.values()) / 2**20:.1f} MiB proportional")
    for (pid, one), name in zip(weights.items(), ("manager", "fork_server", *["host"] * len(weights)), strict=False):
        print(f"  {name:10} pid {pid:<8} resident {one.rss / 2**20:7.1f} MiB   proportional {one.pss / 2**20:7.1f} MiB")


async def workers(bench: Bench) -> None:
    """Measure a worker, idle and with operations that wait."""
    async with worker() as process:
        await bench.create(1, 1, {"@odata.type": operations.Noop.odata_type})
        await until(lambda: bench.finished(1), 60)
        show_worker("A worker, idle", process.pid)
        await bench.create(WAITING, WAITING, {"@odata.type": operations.Hold.odata_type})
        await until(lambda: bench.leased(WAITING), 60)
        show_worker(f"With {WAITING} coroutine operations that wait", process.pid)


async def records(bench: Bench, count: int, per_call: int) -> None:
    """Measure what is left of finished operations."""
    await bench.redis.flushall()
    await bench.store.ready()
    before = await bench.used()
    async with worker():
        await bench.create(count, per_call, EXAMPLE)
        await until(lambda: bench.finished(count), 60 + count / 100)
    after = await bench.used()
    kinds = await bench.by_kind()
    kinds["the server's tables"] = after - before - sum(kinds.values())
    print(f"{count:,} finished examples, {per_call:,} to a call: {(after - before) / count:,.0f} bytes each")
    for kind, size in kinds.items():
        print(f"  {size / count:7,.0f}  {kind}")


@asynccontextmanager
async def opened() -> "AsyncIterator[Bench]":
    """Open the service on the server that REDIS_URL names."""
    settings = load()
    log.configure(settings)
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        registry = load_types(settings.type_modules)
        yield Bench(store, Operations(store, EventHub(redis, store.keys.events), registry, settings))


async def main(options: argparse.Namespace) -> None:
    """Measure both."""
    async with opened() as bench:
        await workers(bench)
        await records(bench, options.operations, options.per_call)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=100_000, help="finished operations (100000)")
    parser.add_argument("--per-call", type=int, default=100, help="of them to a call (100)")
    with tempfile.TemporaryDirectory() as directory:
        arguments = parser.parse_args()
        server = start_server(Path(directory))
        os.environ.update(REDIS_URL=server.url, TRACKER_TYPES=TYPES, TRACKER_LOG_LEVEL="warning")
        try:
            asyncio.run(main(arguments))
        finally:
            server.stop()
