"""Shares of tenants while one of them floods the queue: `make bench-shares`, or `python -m benchmarks.shares`.

One tenant queues `--flood` operations, each of which sleeps for 5 ms. Then one worker starts. When it is at work, each
of the other tenants queues `--each` operations at once. When half of these are done, a tenant that has queued nothing
before creates one operation. A row for each tenant shows

* `started`: how many of its operations started while all tenants had operations in the queue, and `share`, the part of
  all operations that started in this time;
* the time from the create of an operation to its start: of the first, the median and the longest.

The rows of the tenants beside the flooding one are shown as their least, median and greatest if they are many. The
times come from the records, by the clock of the server.
"""

import argparse
import asyncio
import math
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

from benchmarks import operations
from benchmarks.drain import TYPES, fresh_server
from benchmarks.memory import until
from benchmarks.processes import running
from benchmarks.ratios import note
from benchmarks.trees import THIS
from tracker.config import Settings
from tracker.domain.operation import SECOND
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.store.connection import open_redis
from tracker.store.create_args import CreateArgs
from tracker.store.store import Store

FLOOD, NEWCOMER = "flood", "newcomer"
BATCH = 100
"""How many operations are created or read in one call."""
LIMIT = 600.0
"""The longest time in seconds for each step."""
SHOWN = 12
"""Of how many tenants each has a row of its own."""
POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant got. Waits are in seconds."""

    tenant: str
    started: int
    share: float
    first: float
    typical: float
    longest: float

    def row(self) -> tuple[str, ...]:
        """The line of the table."""
        waits = (f"{wait * 1000:,.0f}" for wait in (self.first, self.typical, self.longest))
        return (self.tenant, f"{self.started:,}", f"{self.share:.1%}", *waits)


class Tenants:
    """The operations of the tenants, by their keys."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.keys: dict[str, list[str]] = {}

    async def create(self, tenant: str, count: int) -> None:
        """Queue operations of a tenant."""
        for start in range(0, count, BATCH):
            records = [self._record(tenant) for _ in range(min(BATCH, count - start))]
            for outcome in await self._store.create_each([CreateArgs(record) for record in records]):
                assert not isinstance(outcome, Exception), outcome
            self.keys.setdefault(tenant, []).extend(record.key for record in records)

    @staticmethod
    def _record(tenant: str) -> Record:
        key = uuid4()
        kind = operations.Sleep.odata_type
        return Record(key.hex, tenant, "bench", str(key), kind, digest=key.hex, policy=POLICY)

    async def started(self, tenant: str) -> list[Record]:
        """The operations of a tenant that have started, in the order of their creation."""
        keys, found = self.keys[tenant], []
        for start in range(0, len(keys), BATCH):
            found += await self._store.read(keys[start : start + BATCH])
        return [record for record in found if record.started]

    async def have_started(self, tenants: Sequence[str], part: float) -> bool:
        """Whether that part of the operations of each of the tenants has started: they start in their order."""
        last = [self.keys[tenant][math.ceil(part * len(self.keys[tenant])) - 1] for tenant in tenants]
        return all(record.started for record in await self._store.read(last))


@asynccontextmanager
async def working(url: str, options: argparse.Namespace) -> AsyncIterator[None]:
    """Run a worker while the body runs."""
    env = {"REDIS_URL": url, "TRACKER_TYPES": TYPES, "TRACKER_LOG_LEVEL": "warning"}
    env["TRACKER_TENANT_WEIGHTS"] = options.weights
    async with running(*THIS.tracker("worker", "--concurrency", str(options.concurrency)), env=env, cwd=THIS.root):
        yield


async def measure(options: argparse.Namespace) -> list[Share]:
    """Measure on a new Valkey. The first row is the flooding tenant's, the last one the newcomer's."""
    others = [f"tenant {number}" for number in range(1, options.tenants)]
    async with fresh_server("always") as (_, url, _):
        settings = Settings(REDIS_URL=url)
        async with open_redis(settings) as redis:
            tenants = Tenants(Store(redis, settings))
            await tenants.create(FLOOD, options.flood)
            note(f"{options.flood:,} operations are queued")
            async with working(url, options):
                await until(lambda: tenants.have_started([FLOOD], 0.01), LIMIT)
                for other in others:
                    await tenants.create(other, options.each)
                await until(lambda: tenants.have_started(others, 0.5), LIMIT)
                await tenants.create(NEWCOMER, 1)
                await until(lambda: tenants.have_started([*others, NEWCOMER], 1.0), LIMIT)
            return shares({tenant: await tenants.started(tenant) for tenant in tenants.keys})


def shares(started: Mapping[str, Sequence[Record]]) -> list[Share]:
    """What each tenant got. The time in which all had operations in the queue ends when the first has none left."""
    others = [records for tenant, records in started.items() if tenant not in {FLOOD, NEWCOMER}]
    begin = max(records[-1].created for records in others)
    end = min(max(record.started for record in records) for records in others)
    within = {tenant: sum(begin <= record.started <= end for record in records) for tenant, records in started.items()}
    total = max(1, sum(within.values()))
    found = []
    for tenant, records in started.items():
        waits = [(record.started - record.created) / SECOND for record in records]
        count = within[tenant]
        found.append(Share(tenant, count, count / total, waits[0], median(waits), max(waits)))
    return found


def table(found: Sequence[Share]) -> list[str]:
    """Lines of text: a row for each tenant, or the least, the median and the greatest of many."""
    flood, *others, newcomer = found
    rows = [("tenant", "started", "share", "first ms", "median ms", "longest ms"), flood.row()]
    if len(others) <= SHOWN:
        rows += [one.row() for one in others]
    else:
        by_count = sorted(others, key=lambda one: (one.started, -one.longest))
        for name, one in (("least", by_count[0]), ("median", by_count[len(others) // 2]), ("most", by_count[-1])):
            rows.append((f"{name} of {len(others)} others", *one.row()[1:]))
    rows.append(newcomer.row())
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 tenants, a flood of 2,000 operations")
    parser.add_argument("--tenants", type=int, help="how many tenants queue operations, the flooding one included (10)")
    parser.add_argument("--flood", type=int, help="operations of the flooding tenant (100,000)")
    parser.add_argument("--each", type=int, default=200, help="operations of each other tenant (200)")
    parser.add_argument("--concurrency", type=int, default=100, help="coroutines that the worker runs at once (100)")
    parser.add_argument("--weights", default="", help="TRACKER_TENANT_WEIGHTS of the worker, as 'flood=1,tenant 1=3'")
    options = parser.parse_args(words)
    default = {"tenants": 3, "flood": 2000} if options.quick else {"tenants": 10, "flood": 100_000}
    for name, value in default.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.tenants <= 1:
        parser.error("--tenants: at least 2")
    return options


async def main(options: argparse.Namespace) -> None:
    """Measure, and print."""
    found = await measure(options)
    print(f"{options.tenants} tenants, {options.flood:,} operations of one, {options.each} of each other:")
    print("\n".join(table(found)))


if __name__ == "__main__":
    asyncio.run(main(parse(sys.argv[1:])))
