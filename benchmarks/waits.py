"""Thousands of held requests on one API process: `make bench-waits`, or `python -m benchmarks.waits`.

The benchmark starts a private Valkey (`appendfsync always`) and one `tracker serve`, and lets N operations run. For
each operation it holds one `Prefer: wait=60` request, each on a connection of its own. Then operations succeed at a
steady rate. A connection that gets its answer waits for the next operation at once, so that N requests always wait.
The output has

* the time from an operation's transition (`completedDateTime` in its record) to the last byte of the answer, by the
  clock of the same machine; beside it the time from the transition to its message, as a subscription of the
  benchmark gets it. The difference is the API's share.
* the resident memory of the API per held request, beside a bare aiohttp handler that awaits a future and gets the
  same requests.
* the API's connections to Redis, and its processor time while operations end.

N requests need 2 * N + some open files. The benchmark raises the soft limit to the hard limit, and lowers N when
that is too low.

`--against COMMIT` measures this tree and the commit in turns. docs/benchmarks.md describes the rows.
"""

import argparse
import asyncio
import gc
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import aiohttp
import uvloop
from aiohttp import web

from benchmarks import trees
from benchmarks.drain import free_port, fresh_server
from benchmarks.held_requests import Answers, answer_times, holding, message_times
from benchmarks.processes import cpu_time, memory, running
from benchmarks.ratios import Figures, NotMeasured, Rounds, Turns, compare, report
from benchmarks.store_calls import store_calls
from benchmarks.trees import THIS, Tree
from tracker.api.connection_limits import BACKLOG

BATCH = 100
"""How many operations are created or claimed by one script call."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The figures of one API process. Times are milliseconds after the transition, in ascending order."""

    answers: Sequence[float]
    messages: Sequence[float]
    ends_per_second: float
    opened_within: float
    """Seconds until all requests were held."""
    bytes_each: float
    """Resident bytes per held request."""
    processor: float
    """The share of one core that the API used while operations ended."""
    subscriptions: int
    connections: int


async def serve_bare(port: int) -> None:
    """Serve a handler that never answers."""

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
    """Wait until a server listens on the port. Raises TimeoutError after 20 s."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/healthz"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def settled(pid: int) -> None:
    """Wait until a process is idle, ten seconds at most."""
    for _ in range(20):
        before = cpu_time(pid)
        await asyncio.sleep(0.5)
        if cpu_time(pid) - before <= 0.03:
            return


async def measure_bare(waiters: int) -> tuple[float, float]:
    """Bytes of the bare server per held request, and seconds until all requests were held."""
    port = free_port()
    async with running(sys.executable, "-m", "benchmarks.waits", "--bare", str(port), env={}) as server:
        await until_listening(port)
        before, begun = memory(server.pid).rss, time.monotonic()
        async with holding(port, [str(uuid4()) for _ in range(waiters)], asyncio.Queue()):
            opened = time.monotonic() - begun
            await settled(server.pid)
            return (memory(server.pid).rss - before) / waiters, opened


async def measure(tree: Tree, waiters: int, rate: int, seconds: float) -> Waits:
    """Measure the API of a tree, on a new Valkey. Raises NotMeasured when answers are missing."""
    ends, port = int(rate * seconds), free_port()
    answers: Answers = asyncio.Queue()
    async with fresh_server("always") as (redis, url, _):
        env = {
            "REDIS_URL": url,
            "TRACKER_AUTH": "none",
            "TRACKER_PORT": str(port),
            "TRACKER_LOG_LEVEL": "warning",
            "TRACKER_CONNECTIONS": str(2 * waiters),
            "TRACKER_CONNECTIONS_PER_ADDRESS": str(2 * waiters),
            "TRACKER_WAITS": str(2 * waiters),
        }
        async with (
            running(*tree.tracker("serve"), env=env, cwd=tree.root) as server,
            store_calls(tree, url) as calls,
        ):
            await until_listening(port)
            created = await calls.ask(f"create {waiters + ends} {BATCH}")
            await calls.ask(f"claim {waiters + ends} {BATCH}")
            next_ones = iter(created["ids"])
            before, begun = memory(server.pid).rss, time.monotonic()
            async with holding(port, [next(next_ones) for _ in range(waiters)], answers):
                opened = time.monotonic() - begun
                await settled(server.pid)
                bytes_each = (memory(server.pid).rss - before) / waiters
                subscriptions, connections = len(redis.client_list(_type="pubsub")), len(redis.client_list())
                spent, begun = cpu_time(server.pid), time.monotonic()
                try:
                    async with asyncio.timeout(seconds * 4 + 20):
                        late, messages, _ = await asyncio.gather(
                            answer_times(answers, next_ones, ends),
                            message_times(url, ends),
                            calls.ask(f"end {ends} {rate}"),
                        )
                except TimeoutError:
                    raise NotMeasured(f"{tree.name}: not all of {ends} ends were answered") from None
                took, spent = time.monotonic() - begun, cpu_time(server.pid) - spent
    return Waits(
        answers=sorted(late),
        messages=sorted(messages),
        ends_per_second=ends / took,
        opened_within=opened,
        bytes_each=bytes_each,
        processor=spent / took,
        subscriptions=subscriptions,
        connections=connections,
    )


def figures(one: Waits) -> Figures:
    """The figures of a comparison."""
    return {
        ("transition to answer", "p50 ms"): quantile(one.answers, 0.5),
        ("transition to answer", "p99 ms"): quantile(one.answers, 0.99),
        ("transition to message", "p50 ms"): quantile(one.messages, 0.5),
        ("opening of all requests", "s"): one.opened_within,
        ("held request", "KiB of the API"): one.bytes_each / 1024,
        ("end of an operation", "API us"): one.processor / one.ends_per_second * 1e6,
    }


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of values is at most."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def show(name: str, ascending: Sequence[float]) -> None:
    """Print a line of latencies."""
    parts = "   ".join(f"{word} {quantile(ascending, share):7.1f} ms" for word, share in (("p50", 0.5), ("p99", 0.99)))
    print(f"{name + ':':24}{parts}   most {ascending[-1]:.1f} ms   ({len(ascending):,})")


async def measure_one(options: argparse.Namespace) -> None:
    """Measure this tree beside the bare handler, and print."""
    waiters = affordable(options.waiters)
    bare_bytes, bare_opened = await measure_bare(waiters)
    one = await measure(THIS, waiters, options.rate, options.seconds)
    print(f"{waiters:,} held at once, {one.ends_per_second:.0f} operations a second ended")
    print(f"asked within {one.opened_within:.1f} s; of a bare aiohttp handler: {bare_opened:.1f} s")
    show("transition to answer", one.answers)
    show("transition to message", one.messages)
    print(f"memory per waiter: {one.bytes_each / 1024:.1f} KiB; of a bare aiohttp handler: {bare_bytes / 1024:.1f} KiB")
    print(f"connections to Redis: {one.subscriptions} subscribed, {one.connections} in all, with the benchmark's own")
    print(f"the server's processor time while they ended: {one.processor * 100:.0f} % of one core")


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Measure two trees in turns, and print ratios."""
    waiters = affordable(options.waiters)

    async def one_round(order: Sequence[Tree]) -> Turns:
        return [{tree: figures(await measure(tree, waiters, options.rate, options.seconds)) for tree in order}]

    print(f"{waiters:,} requests held; {options.rate} operations a second end, for {options.seconds:g} s in each round")
    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


def affordable(waiters: int) -> int:
    """How many requests the limit of open files allows. Raises the soft limit, also for child processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return waiters if hard == resource.RLIM_INFINITY else min(waiters, hard - 500)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1000 requests, 200 ends a second for 3 s (half a minute)")
    parser.add_argument("--waiters", type=int, help="requests held at once (10000)")
    parser.add_argument("--rate", type=int, help="operations that end in a second (500)")
    parser.add_argument("--seconds", type=float, help="seconds in which operations end (20; with --against 5)")
    parser.add_argument("--rounds", type=int, help="rounds of --against at most (15)")
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    trees.add_options(parser)
    options = parser.parse_args()
    quick = {"waiters": 1000, "rate": 200, "seconds": 3.0, "rounds": 2}
    full = {"waiters": 10_000, "rate": 500, "seconds": 5.0 if options.against else 20.0, "rounds": 15}
    trees.fill_in(options, quick if options.quick else full)
    return options


async def main(options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    if options.bare:
        await serve_bare(options.bare)
        return
    gc.disable()  # a pause of this process would count as a pause of the API
    if options.against:
        await compare_trees(options, trees.checked_out(options.against))
    else:
        await measure_one(options)


if __name__ == "__main__":
    uvloop.run(main(parse()))
