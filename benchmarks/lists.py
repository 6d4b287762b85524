"""Whether a long list costs more than a short one: `make bench-lists ARGS="--operations N --rounds N"`.

Starts a private Valkey and the API, fills one call with 1,000 operations and one with a million (each a copy of one
that went through the lifecycle: a quarter each is waiting, running, completed and failed), and sends the same requests
to both in turn. Every figure is a median and a 99th percentile in milliseconds; the ratio is of the medians. Takes
about 1 GiB of memory.
"""

import argparse
import asyncio
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import aiohttp

from benchmarks.latency import TRACKER, until_ready
from benchmarks.processes import running
from tracker.api.auth import ANONYMOUS
from tracker.config import Settings, load
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, LOST, OperationStatus
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.runtime.dev_valkey import start_server
from tracker.store.connection import open_redis
from tracker.store.keys import call_digest
from tracker.store.store import Store

if TYPE_CHECKING:
    from redis.asyncio import Redis

TENANT: Final = ANONYMOUS.tenant
SHORT, LONG = "short", "long"
BATCH: Final = 2_000

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
"""Copies one of four records so many times into a call, with its members of the indexes."""

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


async def fill(redis: "Redis", store: Store, call: str, templates: list[Record], operations: int) -> None:
    """Fill a call."""
    copy = redis.register_script(COPY)
    keys = [store.keys.operation(record.key) for record in templates]
    names = (store.keys.prefix, store.keys.ids(TENANT), call, call_digest(TENANT, call))
    stamp = templates[0].created - 2 * operations
    for first in range(0, operations, BATCH):
        count = min(BATCH, operations - first)
        await copy(keys=keys, args=[*names, first, count, stamp])


async def templates_of(store: Store) -> list[Record]:
    """An operation of each status, brought there by the lifecycle."""
    found = []
    for status in OperationStatus:
        key = uuid4()
        record = Record(key.hex, TENANT, "template", str(key), COMMS_OPERATION, digest=key.hex, policy=Policy())
        record, _ = await store.create(record)
        if status is not OperationStatus.NOT_STARTED:
            kinds = {canonical(COMMS_OPERATION): "coroutines"}
            [record] = (await store.claim_ticket(f"{record.key}-{record.ticket}", worker="bench", kinds=kinds)).started
        if status is OperationStatus.COMPLETED:
            record = await store.apply(lifecycle.succeed(record, DONE, {}))
        elif status is OperationStatus.FAILED:
            record = await store.apply(lifecycle.fail(record, LOST, {}))
        found.append(record)
    return found


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Caller:
    """Sends the requests."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def address(self, call: str, path: str) -> str:
        """The address of a request to a call, with what only its list knows filled in."""
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


async def compare(caller: Caller, name: str, path: str, rounds: int) -> None:
    """Time one request to both calls in turn, and print its line."""
    addresses = {call: await caller.address(call, path) for call in (SHORT, LONG)}
    times: dict[str, list[float]] = {SHORT: [], LONG: []}
    for number in range(rounds + 10):
        for call in (SHORT, LONG) if number % 2 else (LONG, SHORT):
            elapsed = await caller.time(addresses[call])
            if number >= 10:
                times[call].append(elapsed)
    medians = {call: statistics.median(of) for call, of in times.items()}
    lasts = {call: sorted(of)[int(len(of) * 0.99) - 1] for call, of in times.items()}
    figures = "   ".join(f"{call} p50 {medians[call]:7.3f} p99 {lasts[call]:7.3f}" for call in (SHORT, LONG))
    print(f"{name:26} {figures}   long / short {medians[LONG] / medians[SHORT]:5.2f}", flush=True)


async def main(options: argparse.Namespace, settings: Settings) -> None:
    """Fill both calls and compare."""
    async with running(*TRACKER, "serve", env={}), open_redis(settings) as redis:
        store = Store(redis, settings)
        await redis.config_set("appendfsync", "no")  # nothing of this is to be kept
        templates = await templates_of(store)
        for call, operations in ((SHORT, 1_000), (LONG, options.operations)):
            begun = time.perf_counter()
            await fill(redis, store, call, templates, operations)
            print(f"{call}: {operations:,} operations, filled in {time.perf_counter() - begun:.0f} s", flush=True)
        async with aiohttp.ClientSession(f"http://{settings.host}:{settings.port}") as http:
            await until_ready(http)
            for name, path in PATHS.items():
                await compare(Caller(http), name, path, options.rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=1_000_000, help="operations of the long call (1000000)")
    parser.add_argument("--rounds", type=int, default=200, help="requests per figure and call (200)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = start_server(Path(directory))
        os.environ.update(TRACKER_LOG_LEVEL="error")
        os.environ.update(REDIS_URL=server.url, TRACKER_AUTH="none", TRACKER_PORT=str(free_port()))
        try:
            asyncio.run(main(arguments, load()))
        finally:
            server.stop()
