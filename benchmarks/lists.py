"""Cost of lists in a call of a thousand operations and in a call of a million: `make bench-lists`.

The benchmark starts a private Valkey and the API, and fills two calls. Each operation is a copy of one that went
through its lifecycle: a quarter each is waiting, running, completed and failed. The same requests then go to both
calls in turn. Every figure is a median and a 99th percentile in milliseconds; the ratio is of the medians. A million
operations take about 1 GiB of memory.

`--against COMMIT` measures this tree and the commit in turns. docs/benchmarks.md describes the rows.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from typing import TYPE_CHECKING, Final

import aiohttp
from redis.asyncio import Redis

from benchmarks import trees
from benchmarks.drain import free_port, fresh_server
from benchmarks.latency import until_ready
from benchmarks.processes import cpu_time, running
from benchmarks.ratios import Figures, Rounds, Turns, compare, note, report
from benchmarks.store_calls import store_calls
from benchmarks.trees import THIS, Tree
from tracker.store.keys import Keys, call_digest

if TYPE_CHECKING:
    from benchmarks.store_calls import StoreCalls

TENANT: Final = "default"
"""The tenant of requests without a token."""
SHORT, LONG = "short", "long"
SHORT_LENGTH: Final = 1_000
BATCH: Final = 2_000
"""How many copies one script call makes."""
WARM_UP: Final = 10
"""Requests before the first figure of `compare_calls`."""
STATUSES: Final = ("NotStarted", "Running", "Completed", "Failed")

COPY: Final = """
local prefix, ids, call, digest, first, count, stamp = unpack(ARGV)
local statuses = {'NotStarted', 'Running', 'Completed', 'Failed'}
for number = tonumber(first), first + count - 1 do
  local at = number % 4 + 1
  local key = string.sub(digest, 1, 16) .. string.format('%016x', number)
  local created, context = string.format('%.0f', stamp + number), 'context-' .. number % 10
  redis.call('COPY', KEYS[at], prefix .. ':op:' .. key)
  redis.call('HSET', prefix .. ':op:' .. key, 'key', key, 'id', key, 'created', created, 'call_id', call,
    'client_context', context)
  redis.call('HSET', ids, key, key)
  local index = prefix .. ':call:' .. digest
  redis.call('ZADD', index, created, key)
  redis.call('ZADD', index .. ':status:' .. statuses[at], created, key)
  redis.call('ZADD', index .. ':context:' .. redis.sha1hex(context), created, key)
end
"""
"""Copies four records, one of each status, into a call, and adds the copies to the call's indexes."""

PATHS: Final[Mapping[str, str]] = {
    "point read": "/{id}",
    "first page of 100": "",
    "first page, oldest first": "?$orderby=createdDateTime",
    "first page of a status": "?$top=50&$filter=status eq 'Running'",
    "of two statuses": "?$top=50&$filter=status in ('Running','Failed')",
    "of a clientContext": "?$top=50&$filter=clientContext eq 'context-3'",
    "of both": "?$top=20&$filter=status eq 'Running' and clientContext eq 'context-3'",
    "of a time": "?$filter=createdDateTime ge {middle}",
    "of an id": "?$filter=id eq '{id}'",
    "after $skip=500": "?$skip=500",
    "$count": "/$count",
    "$count of a status": "/$count?$filter=status ne 'Running'",
    "the second page": "{next}",
}
"""The requests: the row of each, and what follows the path of the call's operations."""


async def fill(redis: "Redis", call: str, templates: Sequence[str], operations: int) -> None:
    """Fill a call with copies of the records with these keys, in the order of `STATUSES`."""
    keys = Keys()
    copy = redis.register_script(COPY)
    records = [keys.operation(key) for key in templates]
    names = (keys.prefix, keys.ids(TENANT), call, call_digest(TENANT, call))
    stamp = int(await redis.hget(records[0], "created") or 0) - 2 * operations
    for first in range(0, operations, BATCH):
        await copy(keys=records, args=[*names, first, min(BATCH, operations - first), stamp])


async def templates_of(calls: "StoreCalls") -> list[str]:
    """Make an operation of each status. Returns their keys in the order of `STATUSES`."""
    created = await calls.ask("create 4 1")
    completed, failed, running_one, waiting = created["keys"]
    await calls.ask("claim 3 1")
    await calls.ask("succeed 1 1")
    await calls.ask("fail 1 1")
    return [waiting, running_one, completed, failed]


class Lists:
    """The API of a tree, over two calls that are filled. `servers` are the pids of the API and of Valkey."""

    def __init__(self, http: aiohttp.ClientSession, servers: Sequence[int]) -> None:
        self._http, self.servers = http, servers

    async def address(self, call: str, path: str) -> str:
        """The URL of a request to a call. Takes an id, a time and the next page from the call's first page."""
        base = f"/communications/calls/{call}/operations"
        page = await (await self._http.get(base)).json()
        middle = page["value"][50]
        return {"{next}": page["@odata.nextLink"]}.get(path) or base + path.format(
            id=middle["id"], middle=middle["createdDateTime"]
        )

    async def time(self, address: str) -> float:
        """Milliseconds until the answer is read."""
        begun = time.perf_counter()
        async with self._http.get(address) as answer:
            await answer.read()
            assert answer.status == 200, await answer.text()
        return (time.perf_counter() - begun) * 1000

    async def times(self, address: str, count: int) -> tuple[list[float], float]:
        """Milliseconds of `count` requests, and processor milliseconds of both servers per request."""
        before = sum(map(cpu_time, self.servers))
        times = [await self.time(address) for _ in range(count)]
        return times, (sum(map(cpu_time, self.servers)) - before) / count * 1000


@asynccontextmanager
async def opened(tree: Tree, operations: int) -> AsyncIterator[Lists]:
    """Start a tree's API on a new Valkey, and fill both calls."""
    port = free_port()
    async with fresh_server("always") as (_, url, valkey):
        env = {"REDIS_URL": url, "TRACKER_AUTH": "none", "TRACKER_PORT": str(port), "TRACKER_LOG_LEVEL": "error"}
        async with running(*tree.tracker("serve"), env=env, cwd=tree.root) as api:
            async with store_calls(tree, url) as calls, Redis.from_url(url, decode_responses=True) as redis:
                await redis.config_set("appendfsync", "no")  # the data need not survive a crash
                templates = await templates_of(calls)
                for call, count in ((SHORT, SHORT_LENGTH), (LONG, operations)):
                    begun = time.perf_counter()
                    await fill(redis, call, templates, count)
                    took = time.perf_counter() - begun
                    print(f"{tree.name}, {call}: {count:,} operations, filled in {took:.0f} s", flush=True)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                await until_ready(http)
                yield Lists(http, (api.pid, valkey))


async def compare_calls(lists: Lists, name: str, path: str, rounds: int) -> None:
    """Time one request to both calls in turn, and print its line."""
    addresses = {call: await lists.address(call, path) for call in (SHORT, LONG)}
    times: dict[str, list[float]] = {SHORT: [], LONG: []}
    for number in range(rounds + WARM_UP):
        for call in (SHORT, LONG) if number % 2 else (LONG, SHORT):
            elapsed = await lists.time(addresses[call])
            if number >= WARM_UP:
                times[call].append(elapsed)
    medians = {call: statistics.median(of) for call, of in times.items()}
    lasts = {call: sorted(of)[int(len(of) * 0.99) - 1] for call, of in times.items()}
    figures = "   ".join(f"{call} p50 {medians[call]:7.3f} p99 {lasts[call]:7.3f}" for call in (SHORT, LONG))
    print(f"{name:26} {figures}   long / short {medians[LONG] / medians[SHORT]:5.2f}", flush=True)


async def measure_one(options: argparse.Namespace) -> None:
    """Compare the calls of this tree, and print."""
    async with opened(THIS, options.operations) as lists:
        for name, path in PATHS.items():
            await compare_calls(lists, name, path, options.requests)


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Send the same requests to two trees in turns, and print ratios."""
    async with AsyncExitStack() as stack:
        begun = time.monotonic()
        both = {tree: await stack.enter_async_context(opened(tree, options.operations)) for tree in (THIS, that)}

        async def one_round(order: Sequence[Tree]) -> Turns:
            figures: dict[Tree, Figures] = {tree: {} for tree in order}
            for (name, path), call in product(PATHS.items(), (SHORT, LONG)):
                addresses = {tree: await both[tree].address(call, path) for tree in order}
                for tree in order:
                    times, processor = await both[tree].times(addresses[tree], options.requests)
                    figures[tree][f"{name}, {call}", "p50 ms"] = statistics.median(times)
                    figures[tree][f"{name}, {call}", "processor ms"] = processor
            return [figures]

        filled = (time.monotonic() - begun) / 60
        note(f"both trees are filled after {filled * 60:.0f} s")
        report(await compare(that, Rounds(options.rounds, options.minutes - filled), one_round), that)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20000 operations and few requests (half a minute)")
    parser.add_argument("--operations", type=int, help="operations of the long call (1000000; with --against 200000)")
    parser.add_argument("--requests", type=int, help="requests per figure (200; with --against 20 in each round)")
    parser.add_argument("--rounds", type=int, help="rounds of --against at most (30)")
    trees.add_options(parser)
    options = parser.parse_args()
    quick = {"operations": 20_000, "requests": 5 if options.against else 20, "rounds": 6}
    full = {"operations": 1_000_000, "requests": 200, "rounds": 30}
    if options.against:
        full |= {"operations": 200_000, "requests": 20}
    trees.fill_in(options, quick if options.quick else full)
    return options


async def main(options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    if options.against:
        await compare_trees(options, trees.checked_out(options.against))
    else:
        await measure_one(options)


if __name__ == "__main__":
    asyncio.run(main(parse()))
