"""Memory of a worker and of finished operations: `make bench-memory`, or `python -m benchmarks.memory`.

* A worker's processes, idle and with 100 coroutine operations that wait: resident memory, and proportional memory, in
  which each page counts in equal parts for the processes that share it. Linux only.
* Redis, per finished operation: the difference in `used_memory` that N documented examples make. They are created
  over HTTP and finished by a worker, and both have left when it is read. Samples of MEMORY USAGE show which keys take
  it. The rest is in the server's own tables of keys and of expiry times.

`--against COMMIT` measures this tree and the commit in turns. docs/benchmarks.md describes the rows.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import operations, trees
from benchmarks.api_bare import BATCH, channel, listening
from benchmarks.api_load import request
from benchmarks.drain import TYPES, free_port, fresh_server
from benchmarks.processes import Memory, memory, running, tree
from benchmarks.ratios import Figures, Rounds, Turns, compare, report
from benchmarks.trees import THIS, Tree
from tracker.cli.dev_stack import EXAMPLE
from tracker.store.keys import Keys

if TYPE_CHECKING:
    from redis import Redis

KEYS = Keys()
SAMPLES = 2000
"""How many keys of a kind are measured at most."""
CLIENTS = 4
"""How many connections create operations."""
WAITING = 100
"""How many operations wait while the worker's memory is read."""
KINDS = {
    "record": ("tracker:op:",),
    "indexes": ("tracker:ids:", "tracker:call:", "tracker:expiries"),
    "attempt history (the last 10, as long as the record)": ("tracker:history:",),
    "events (a tenant's last 5,000 messages, a day at most)": ("tracker:feed:",),
    "idempotency (a day)": ("tracker:once:",),
    "RQ's": ("rq:",),
    "other": ("tracker:",),
}
"""Kinds of keys by the beginnings of their names. The first kind that fits counts."""
Processes = Sequence[tuple[str, int, Memory]]
"""The role, the pid and the memory of each process of a worker."""


def kind_of(key: str) -> str:
    """The kind of a key."""
    return next((kind for kind, beginnings in KINDS.items() if key.startswith(beginnings)), "other")


async def until(condition: Callable[[], Awaitable[bool]], limit: float) -> None:
    """Wait until the condition holds. Raises TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not await condition():  # noqa: ASYNC110 - only a request shows what another process has done
            await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of Redis per finished operation: all, and the part of each kind of keys."""

    bytes_each: float
    kinds: Mapping[str, float]


class Bench:
    """A tree's API and worker, on a private Valkey."""

    def __init__(self, tree: Tree, redis: "Redis", url: str) -> None:
        self.redis = redis
        self._tree, self._port = tree, free_port()
        self._env = {
            "REDIS_URL": url,
            "TRACKER_AUTH": "none",
            "TRACKER_PORT": str(self._port),
            "TRACKER_TYPES": TYPES,
            "TRACKER_LOG_LEVEL": "warning",
        }

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a worker while the body runs."""
        async with running(*self._tree.tracker("worker"), env=self._env, cwd=self._tree.root) as process:
            yield process

    @asynccontextmanager
    async def api(self) -> AsyncIterator[None]:
        """Run the API while the body runs."""
        async with running(*self._tree.tracker("serve"), env=self._env, cwd=self._tree.root):
            await listening(self._port)
            yield

    async def create(self, count: int, per_call: int, body: Mapping[str, Any]) -> None:
        """Create `count` operations, `per_call` in each call."""
        starts = iter(range(0, count, BATCH))

        async def client() -> None:
            async with channel(self._port) as asking:
                for start in starts:
                    numbers = range(start, min(count, start + BATCH))
                    answer = await asking.ask(creates([f"call-{number // per_call}" for number in numbers], body), 200)
                    assert all(one["status"] == 201 for one in json.loads(answer.body)["responses"]), answer.body

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def finished(self, count: int) -> bool:
        """Whether `count` operations or more have ended."""
        return int(self.redis.zcard(KEYS.expiries)) >= count

    async def leased(self, count: int) -> bool:
        """Whether `count` operations are running."""
        return int(self.redis.zcard(KEYS.leases)) == count

    def used(self) -> int:
        """Bytes that the server uses."""
        return int(self.redis.info("memory")["used_memory"])

    def by_kind(self) -> dict[str, float]:
        """Bytes of all keys of each kind, from the mean of a sample."""
        keys: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for key in self.redis.scan_iter(count=1000):
            keys[kind_of(key.decode())].append(key.decode())
        return {kind: self._size(names) for kind, names in keys.items() if names}

    def _size(self, names: Sequence[str]) -> float:
        sample = names[:SAMPLES]
        with self.redis.pipeline(transaction=False) as pipe:
            for name in sample:
                pipe.memory_usage(name, samples=0)
            sizes = pipe.execute()
        return sum(size or 0 for size in sizes) * len(names) / len(sample)


def creates(calls: Sequence[str], body: Mapping[str, Any]) -> bytes:
    """A `$batch` request that creates an operation in each call."""
    create = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": body}
    requests = [
        {"id": str(number), "url": f"/communications/calls/{call}/operations", **create}
        for number, call in enumerate(calls)
    ]
    return request("POST", "/v1.0/$batch", body=json.dumps({"requests": requests}).encode())


async def measure_worker(bench: Bench) -> tuple[Processes, Processes]:
    """The processes of a worker when it is idle, and with operations that wait."""
    async with bench.api(), bench.worker() as process:
        await bench.create(1, 1, {"@odata.type": operations.Noop.odata_type})
        await until(lambda: bench.finished(1), 60)
        idle = processes_of(process.pid)
        await bench.create(WAITING, WAITING, {"@odata.type": operations.Hold.odata_type})
        await until(lambda: bench.leased(WAITING), 60)
        return idle, processes_of(process.pid)


def processes_of(root: int) -> Processes:
    """The processes of a worker, in the order in which each starts the next."""
    pids = tree(root)
    roles = ("manager", "fork server", *["host"] * len(pids))
    return [(role, pid, memory(pid)) for role, pid in zip(roles, pids, strict=False)]


async def measure_records(bench: Bench, count: int, per_call: int) -> Stored:
    """Bytes of Redis per finished operation. An earlier API and worker have loaded the scripts already."""
    # redis-py's flushall() cannot send SYNC, without which the memory is freed later.
    bench.redis.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]  # redis-py's, without types
    before = bench.used()
    async with bench.api(), bench.worker():
        await bench.create(count, per_call, EXAMPLE)
        await until(lambda: bench.finished(count), 60 + count / 100)
    after = bench.used()
    kinds = bench.by_kind()
    kinds["the server's tables"] = after - before - sum(kinds.values())
    return Stored((after - before) / count, {kind: size / count for kind, size in kinds.items()})


async def measure(tree: Tree, options: argparse.Namespace) -> tuple[Processes, Processes, Stored]:
    """Measure a tree's worker and its finished operations, on a new Valkey."""
    async with fresh_server("always") as (redis, url, _):
        bench = Bench(tree, redis, url)
        idle, busy = await measure_worker(bench)
        return idle, busy, await measure_records(bench, options.operations, options.per_call)


def mebibytes(processes: Processes) -> float:
    """Proportional memory of all processes."""
    return sum(one.pss for _, _, one in processes) / 2**20


def show_worker(title: str, processes: Processes) -> None:
    """Print the memory of each process of a worker."""
    print(f"{title}: {len(processes)} processes, {mebibytes(processes):.1f} MiB proportional")
    for role, pid, one in processes:
        print(f"  {role:11} pid {pid:<8} resident {one.rss / 2**20:7.1f} MiB   proportional {one.pss / 2**20:7.1f} MiB")


async def measure_one(options: argparse.Namespace) -> None:
    """Measure this tree, and print."""
    idle, busy, stored = await measure(THIS, options)
    show_worker("A worker, idle", idle)
    show_worker(f"With {WAITING} coroutine operations that wait", busy)
    examples = f"{options.operations:,} finished examples, {options.per_call:,} to a call"
    print(f"{examples}: {stored.bytes_each:,.0f} bytes each")
    for kind, size in stored.kinds.items():
        print(f"  {size:7,.0f}  {kind}")


def figures(idle: Processes, busy: Processes, stored: Stored) -> Figures:
    """The figures of a comparison. Kinds of keys with less than a byte per operation are left out."""
    return {
        ("worker, idle", "MiB"): mebibytes(idle),
        (f"worker, {WAITING} operations wait", "MiB"): mebibytes(busy),
        ("finished operation", "bytes"): stored.bytes_each,
        **{
            (f"  {kind.partition(' (')[0]}", "bytes"): size
            for kind, size in stored.kinds.items()
            if kind in KINDS and size >= 1
        },
    }


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Measure two trees in turns, and print ratios."""

    async def one_round(order: Sequence[Tree]) -> Turns:
        return [{one: figures(*await measure(one, options)) for one in order}]

    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5000 operations, one round (half a minute)")
    parser.add_argument("--operations", type=int, help="finished operations (100000; with --against 30000)")
    parser.add_argument("--per-call", type=int, default=100, help="operations in each call (100)")
    parser.add_argument("--rounds", type=int, help="rounds of --against at most (6)")
    trees.add_options(parser)
    options = parser.parse_args()
    full = {"operations": 30_000 if options.against else 100_000, "rounds": 6}
    trees.fill_in(options, {"operations": 5000, "rounds": 1} if options.quick else full)
    return options


async def main(options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    if options.against:
        await compare_trees(options, trees.checked_out(options.against))
    else:
        await measure_one(options)


if __name__ == "__main__":
    asyncio.run(main(parse()))
