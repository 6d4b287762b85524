"""Servers, stored operations and requests of part 1 of `make bench-api`."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.api_load import Burst, Channel, Refused, load, request
from benchmarks.api_writes import Writes, writes
from benchmarks.drain import free_port, fresh_server
from benchmarks.processes import pin, running
from benchmarks.trees import THIS, Tree
from tracker.cli.dev_stack import EXAMPLE
from tracker.cli.token import new_token
from tracker.store.keys import call_digest

CALLS, PER_CALL = 10, 100
"""The number of calls whose operations are read and listed, and of operations in each: one default page of a list."""
NEW_CALLS = 50
"""The number of calls that get the new operations."""
BATCH = 20
"""The number of creates in a $batch."""
TENANT = "bench"
START_WITHIN = 30.0
"""The longest time in seconds until a server listens, and until all operations are completed."""
BODY = json.dumps(EXAMPLE).encode()
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: its requests, the server that gets them, and the row that its rate is compared with."""

    name: str
    server: str
    requests: Sequence[bytes]
    expected: int = 200
    beside: str = ""
    target: float = 0.0
    operations: int = 1
    """How many operations one request does. Rates count operations."""


class Seeded(NamedTuple):
    """A completed operation: the path of its call's operations, its id and its ETag."""

    path: str
    id: str
    etag: str


@dataclass(frozen=True, slots=True)
class Servers:
    """Ports and pids of the servers, by name: `ours`, and `bare` where it runs. All use one Valkey."""

    ports: Mapping[str, int]
    processes: Mapping[str, int]
    valkey: int
    url: str
    headers: Mapping[str, str]

    async def burst(self, row: Row, *, connections: int, seconds: float) -> Burst:
        """Send the row's requests for `seconds`. Raises Refused."""
        watched = {"server": self.processes[row.server], "valkey": self.valkey}
        return await load(
            self.ports[row.server],
            row.requests,
            expected=row.expected,
            connections=connections,
            seconds=seconds,
            watched=watched,
            operations=row.operations,
        )

    async def written(self, row: Row) -> Writes:
        """Watch what one request of the row writes."""
        async with channel(self.ports[row.server]) as asking:
            await asking.ask(row.requests[0], row.expected)  # the first request of a call writes more
            return await writes(self.url, lambda: asking.ask(row.requests[0], row.expected))


@asynccontextmanager
async def opened(appendfsync: str, *, tree: Tree = THIS, bare: bool = True) -> AsyncIterator[tuple[Servers, list[Row]]]:
    """Start a Valkey, the tree's API and, with `bare`, the bare server. Completes the operations that the rows read."""
    token, line = new_token("bench", TENANT)
    headers = {"Authorization": f"Bearer {token}"}
    ports = {name: free_port() for name in (("bare", "ours") if bare else ("ours",))}
    async with fresh_server(appendfsync) as (redis, url, valkey), AsyncExitStack() as stack:
        redis.config_set("auto-aof-rewrite-percentage", 0)  # a rewrite would add to the time of one row only
        env = environment(url, ports["ours"], line)
        servers = {"ours": await stack.enter_async_context(running(*tree.tracker("serve"), env=env, cwd=tree.root))}
        if bare:
            argv = (sys.executable, "-m", "benchmarks.web.bare", str(ports["bare"]))
            servers["bare"] = await stack.enter_async_context(running(*argv, env=env))
        for port in ports.values():
            await listening(port)
        worker = running(*tree.tracker("worker"), env=env, cwd=tree.root)
        async with worker, channel(ports["ours"]) as asking:
            seeded = await seed(asking, headers)
        pids = {name: process.pid for name, process in servers.items()}
        yield Servers(ports, pids, valkey, url, headers), [row for row in rows(seeded, headers) if row.server in ports]


def environment(url: str, port: int, token: str) -> dict[str, str]:
    """The environment of servers and workers. `token` is a line of TRACKER_TOKENS."""
    return {
        "BENCH_URL": url,
        "REDIS_URL": url,
        "TRACKER_TOKENS": token,
        "TRACKER_PORT": str(port),
        "TRACKER_TYPES": "benchmarks.operations",
        "TRACKER_LOG_LEVEL": "error",
    }


def cores() -> tuple[int, int]:
    """The core of the servers, and the core of the load and Valkey. A machine with one core has the same for both."""
    available = sorted(os.sched_getaffinity(0))
    return available[-1], available[0]


@contextmanager
def pinned(many: Iterable[Servers]) -> Iterator[None]:
    """Keep servers on one core, Valkey and this process on the other. At the end this process may use all cores."""
    before = os.sched_getaffinity(0)
    server_core, load_core = cores()
    for servers in many:
        for pid in servers.processes.values():
            pin(pid, server_core)
        pin(servers.valkey, load_core)
    pin(os.getpid(), load_core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[Channel]:
    """Open a connection while the body runs."""
    asking = await Channel.open(port)
    try:
        yield asking
    finally:
        asking.close()


async def listening(port: int) -> None:
    """Wait until a server listens on the port. Raises Refused after `START_WITHIN`."""
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        with suppress(OSError):
            async with channel(port):
                return
        await asyncio.sleep(0.02)
    raise Refused(f"nothing listens on port {port} after {START_WITHIN:.0f} s")


async def seed(asking: Channel, headers: Mapping[str, str]) -> list[Seeded]:
    """Create operations, and wait until a worker has completed all. Raises Refused or TimeoutError."""
    create = [request("POST", path_of(f"call-{call}"), body=BODY, headers=headers) for call in range(CALLS)]
    found = []
    for number in range(CALLS * PER_CALL):
        answer = await asking.ask(create[number % CALLS], 201)
        found.append((path_of(f"call-{number % CALLS}"), json.loads(answer.body)["id"]))
    async with asyncio.timeout(START_WITHIN):
        return [await completed(asking, path, operation_id, headers) for path, operation_id in found]


async def completed(asking: Channel, path: str, operation_id: str, headers: Mapping[str, str]) -> Seeded:
    """Wait until the operation is completed."""
    while True:
        answer = await asking.ask(request("GET", f"{path}/{operation_id}", headers=headers), 200)
        if json.loads(answer.body)["status"] == "Completed":
            return Seeded(path, operation_id, answer.header(b"etag").decode())
        await asyncio.sleep(0.02)


def path_of(call: str) -> str:
    """The path of a call's operations."""
    return f"/v1.0/communications/calls/{call}/operations"


def rows(seeded: Sequence[Seeded], headers: Mapping[str, str]) -> list[Row]:
    """The rows of part 1, each with its bare counterpart before it."""

    def get(path: str, **more: str) -> bytes:
        return request("GET", path, headers={**headers, **more})

    def post(path: str, body: bytes = BODY) -> bytes:
        return request("POST", path, body=body, headers=headers)

    calls, new = [f"call-{number}" for number in range(CALLS)], [f"new-{number}" for number in range(NEW_CALLS)]
    return [
        Row("bare read", "bare", [get(f"/records/{one.id.replace('-', '')}") for one in seeded]),
        Row("read one", "ours", [get(f"{one.path}/{one.id}") for one in seeded], 200, "bare read", 0.8),
        Row(
            "304",
            "ours",
            [get(f"{one.path}/{one.id}", **{"If-None-Match": one.etag}) for one in seeded],
            304,
            "bare read",
            0.9,
        ),
        Row("bare list", "bare", [get(f"/lists/{call_digest(TENANT, call)}") for call in calls]),
        Row("list of 100", "ours", [get(path_of(call)) for call in calls], 200, "bare list", 0.5),
        Row("bare create", "bare", [post(f"/calls/{call}") for call in new], 201),
        Row("create", "ours", [post(path_of(call)) for call in new], 201, "bare create", 0.6),
        Row("$batch", "ours", [post("/v1.0/$batch", batch(call)) for call in new], 200, "create", 3.0, BATCH),
    ]


def batch(call: str) -> bytes:
    """The body of a `$batch` of creates in one call."""
    create = {"method": "POST", "url": path_of(call).removeprefix("/v1.0"), "headers": JSON, "body": EXAMPLE}
    return json.dumps({"requests": [{"id": str(number), **create} for number in range(BATCH)]}).encode()


async def offered(servers: Servers, row: Row) -> str:
    """Why the row cannot be measured. Empty when its server answers as expected, 201 to each create of a $batch."""
    async with channel(servers.ports[row.server]) as asking:
        try:
            answer = await asking.ask(row.requests[0], row.expected)
        except Refused as error:
            return str(error)
    if row.operations > 1:
        made = [one["status"] for one in json.loads(answer.body)["responses"]].count(201)
        return "" if made == row.operations else f"{made} of {row.operations} were created: {answer.body[:300]!r}"
    return ""
