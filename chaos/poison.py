"""The poison run: operations that end or block processes, among innocent operations, which must not be harmed.

It starts a Valkey, an API, two workers and one of RQ's own workers, creates the operations at an even pace, waits until
all have ended, and checks the records: every innocent operation is Completed and charged nothing, and every poisonous
one is Failed. Run it again with `--share 0` to compare the times.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from statistics import median, quantiles
from time import monotonic

import aiohttp

from chaos.hostile import authorization
from chaos.poison_types import POISONED
from chaos.stack import READY_WITHIN, VALKEY, environment, free_port, ready
from tracker import config
from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.runtime.dev_valkey import PrivateServer
from tracker.runtime.processes import Child, Supervisor
from tracker.store.connection import open_redis
from tracker.store.store import Store

INNOCENT = {"coroutine": 12, "function": 4, "serial": 2, "capped": 2}
"""Weights of the innocent types."""
HARM = {"segfault": 10, "exit": 10, "out of memory": 10, "task": 10, "blocks": 4, "worker": 1}
"""Weights of the kinds of harm. When an operation ends its worker, all others of the worker wait for their leases."""
WAYS = ("Coroutine", "Coroutine", "Function")
"""A third of the harm comes from plain functions, except `task`, which only a coroutine can do."""
WITHIN = 600.0
"""The longest time in seconds from the last create until all operations have ended."""
CREATES_AT_ONCE = 20
POLL = 0.5


def operations(count: int, share: float, chances: random.Random) -> Iterator[tuple[str, dict[str, object]]]:
    """The call and the body of each create."""
    for number in range(count):
        call = f"call-{chances.randrange(50)}"
        if chances.random() < share:
            how = chances.choices(list(HARM), list(HARM.values()))[0]
            way = "Coroutine" if how == "task" else chances.choice(WAYS)
            yield call, {"@odata.type": f"#poison.{POISONED}{way}", "id": f"{number}", "how": how, "clientContext": how}
        else:
            kind = chances.choices(list(INNOCENT), list(INNOCENT.values()))[0]
            seconds = round(chances.uniform(0.05, 0.3 if kind in {"function", "serial"} else 2.0), 3)
            yield call, {"@odata.type": f"#poison.{kind}", "id": f"{number}", "seconds": seconds}


@asynccontextmanager
async def installation(directory: Path) -> AsyncIterator[tuple[str, str]]:
    """Start everything. Yields the addresses of the API and of Redis."""
    server, port = PrivateServer(directory / "data"), free_port()
    server.prepare()
    about = {**environment(directory, server.url, "poison"), "TRACKER_TYPES": "chaos.poison_types"}
    tracker = (sys.executable, "-m", "tracker.cli.main")
    options = ("--job-class", "workers.OperationJob", "--serializer", "json", "--url", server.url)
    stock = (sys.executable, "-m", "rq.cli", "worker", "--quiet", *options)
    with (directory / "output.log").open("w") as output:
        keeper = Supervisor(
            [
                Child(VALKEY, server.argv()),
                Child("api", (*tracker, "serve"), {**about, "TRACKER_PORT": str(port)}),
                *(Child(f"worker-{number}", (*tracker, "worker"), about) for number in (1, 2)),
                Child("stock", (*stock, "operations"), about),
            ],
            on_line=lambda name, line: print(f"{monotonic():.3f} {name}: {line}", file=output, flush=True),
            backoff_cap=0.5,
        )
        keeper.start(VALKEY)
        running = asyncio.create_task(keeper.run())
        url = f"http://127.0.0.1:{port}"
        try:
            await asyncio.wait_for(ready([url]), READY_WITHIN)
            yield url, server.url
        finally:
            await keeper.stop([(0, SIGTERM), (10, SIGKILL)])
            await running


async def create_all(url: str, bodies: Sequence[tuple[str, dict[str, object]]], seconds: float) -> None:
    """Create the operations at an even pace, which takes so many seconds."""
    begun, limit = monotonic(), asyncio.Semaphore(CREATES_AT_ONCE)
    async with aiohttp.ClientSession(headers=authorization("load")) as session, asyncio.TaskGroup() as group:
        for number, (call, body) in enumerate(bodies):
            await asyncio.sleep(begun + seconds * number / len(bodies) - monotonic())
            await limit.acquire()
            task = group.create_task(_create(session, f"{url}/communications/calls/{call}/operations", body))
            task.add_done_callback(lambda _: limit.release())


async def _create(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> None:
    async with session.post(url, json=body) as answer:
        answer.raise_for_status()


async def ended(redis_url: str, count: int) -> list[Record]:
    """The records of all operations, when all have ended. After WITHIN, as they are."""
    settings = config.load().model_copy(update={"redis_url": redis_url})
    until, told = monotonic() + WITHIN, monotonic()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        prefix = store.keys.operation("")
        while True:
            keys = [str(key).removeprefix(prefix) async for key in redis.scan_iter(f"{prefix}*", count=10_000)]
            records = await store.read(keys)
            left = count - sum(record.status.final for record in records)
            if not left or monotonic() > until:
                return records
            if monotonic() > told:
                print(f"{left} of {count} operations have not ended", flush=True)
                told = monotonic() + 10
            await asyncio.sleep(POLL)


def report(records: Sequence[Record]) -> bool:
    """Print how the operations ended. Returns whether no innocent one was harmed and every poisonous one has failed."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[f"{record.type} {record.client_context or ''}"].append(record)
    print(f"{'type':34} {'ended as':44} charged  runs at most   s to the end: median, 99 %")
    for name, group in sorted(groups.items()):
        ends = Counter(_end(record) for record in group)
        times = [(record.completed - record.created) / SECOND for record in group] * 2
        counts = ", ".join(f"{count} {end}" for end, count in ends.most_common(4))
        runs, late = max(record.attempt for record in group), quantiles(times, n=100)[-1]
        charged = sum(record.charged for record in group)
        print(f"{name:34} {counts:44} {charged:7}  {runs:12}  {median(times):9.1f} {late:9.1f}")
    innocent = [record for record in records if f".{POISONED}" not in record.type]
    poison = [record for record in records if f".{POISONED}" in record.type]
    harmed = [record for record in innocent if record.status != "Completed" or record.charged]
    survived = [record for record in poison if record.status != "Failed"]
    seconds = (max(record.completed for record in innocent) - min(record.created for record in innocent)) / SECOND
    print(f"{len(innocent)} innocent operations in {seconds:.0f} s, {len(innocent) / seconds:.1f}/s", end="; ")
    print(f"{len(harmed)} of them harmed; {len(survived)} of {len(poison)} poisonous ones not Failed")
    for record in harmed[:20]:
        print(f"harmed: {record.type} {record.id}: {_end(record)}, {record.charged} charged, {record.suspected} deaths")
    return not harmed and not survived


def _end(record: Record) -> str:
    result = record.result_info
    return f"{record.status} {result.code}/{result.subcode}" if result else str(record.status)


async def run(directory: Path, options: argparse.Namespace) -> bool:
    """Run it. Returns what `report` returns."""
    bodies = list(operations(options.operations, options.share, random.Random(options.seed)))
    async with installation(directory) as (url, redis_url):
        await create_all(url, bodies, 60 * options.minutes)
        return report(await ended(redis_url, len(bodies)))


def main() -> int:
    """Run with the options of the command line. Returns the exit code: 0 when `report` finds no fault."""
    parser = argparse.ArgumentParser(prog="python -m chaos.poison", description=__doc__)
    parser.add_argument("--operations", type=int, default=5000, help="how many operations are created (5000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="in how many minutes they are created (10)")
    parser.add_argument("--share", type=float, default=0.05, help="share of poisonous operations (0.05)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the operations (random)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="poison-"))
    print(f"seed {options.seed}; output of the processes: {directory / 'output.log'}", flush=True)
    return 0 if asyncio.run(run(directory, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
