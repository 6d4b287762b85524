"""Ours beside the bare stack: what is asked of each, and the servers and operations for it."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.api_load import Burst, Channel, Refused, load, request
from benchmarks.api_writes import Writes, writes
from benchmarks.drain import free_port, fresh_server
from benchmarks.processes import pin, running
from tracker.cli.dev_stack import EXAMPLE
from tracker.cli.token import new_token
from tracker.store.keys import call_digest

CALLS, PER_CALL = 10, 100
"""Calls whose operations are read and listed, and operations of each: a list's default page holds a whole call."""
NEW_CALLS = 50
"""Calls that creates are spread over."""
BATCH = 20
"""Creates of one $batch."""
TENANT = "bench"
START_WITHIN = 30.0
BODY = json.dumps(EXAMPLE).encode()
JSON = {"Content-Type": "application/json"}
TRACKER = (sys.executable, "-m", "tracker.cli.main")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: requests to one server, and the row whose rate its own is a multiple of."""

    name: str
    server: str
    requests: Sequence[bytes]
    expected: int = 200
    beside: str = ""
    target: float = 0.0
    operations: int = 1
    """What one request does; rates are of operations."""


class Seeded(NamedTuple):
    """An operation that has ended: the path of its call's operations, its id and its ETag."""

    path: str
    id: str
    etag: str


@dataclass(frozen=True, slots=True)
class Servers:
    """The two servers, by name: port and process; and the Valkey that both use."""

    ports: Mapping[str, int]
    processes: Mapping[str, int]
    valkey: int
    url: str
    headers: Mapping[str, str]

    async def burst(self, row: Row, *, connections: int, seconds: float) -> Burst:
        """Load the row's server for so long. Raises Refused."""
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
        """What one request of the row writes."""
        async with channel(self.ports[row.server]) as asking:
            await asking.ask(row.requests[0], row.expected)  # what only the first one of its call does
            return await writes(self.url, lambda: asking.ask(row.requests[0], row.expected))


@asynccontextmanager
async def opened(appendfsync: str) -> AsyncIterator[tuple[Servers, list[Row]]]:
    """Start Valkey, the bare server and ours, each on its core, and make the operations that are read."""
    token, line = new_token("bench", TENANT)
    headers = {"Authorization": f"Bearer {token}"}
    ports = {"bare": free_port(), "ours": free_port()}
    server_core, load_core = cores()
    async with fresh_server(appendfsync) as (redis, url, valkey):
        redis.config_set("auto-aof-rewrite-percentage", 0)  # which would fall into some row's time
        env = environment(url, ports["ours"], line)
        async with (
            running(*TRACKER, "serve", env=env) as ours,
            running(sys.executable, "-m", "benchmarks.web.bare", str(ports["bare"]), env=env) as bare,
        ):
            servers = Servers(ports, {"ours": ours.pid, "bare": bare.pid}, valkey, url, headers)
            for port in ports.values():
                await listening(port)
            async with running(*TRACKER, "worker", env=env), channel(ports["ours"]) as asking:
                seeded = await seed(asking, headers)
            with placed([(server_core, ours.pid, bare.pid), (load_core, valkey, os.getpid())]):
                yield servers, rows(seeded, headers)


def environment(url: str, port: int, token: str) -> dict[str, str]:
    """What the servers and workers are started with; `token` is the line by which ours knows one."""
    return {
        "BENCH_URL": url,
        "REDIS_URL": url,
        "TRACKER_TOKENS": token,
        "TRACKER_PORT": str(port),
        "TRACKER_TYPES": "benchmarks.operations",
        "TRACKER_LOG_LEVEL": "error",
    }


def cores() -> tuple[int, int]:
    """The core of the servers, and that of the load and Valkey; the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[-1], available[0]


@contextmanager
def placed(places: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Have processes on their cores, each of which comes before its pids; this one is given all of its cores again."""
    before = os.sched_getaffinity(0)
    for core, *pids in places:
        for pid in pids:
            pin(pid, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[Channel]:
    """A connection, for as long as the body runs."""
    asking = await Channel.open(port)
    try:
        yield asking
    finally:
        asking.close()


async def listening(port: int) -> None:
    """Wait for a server. Raises Refused."""
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        with suppress(OSError):
            async with channel(port):
                return
        await asyncio.sleep(0.02)
    raise Refused(f"nobody listens on port {port} after {START_WITHIN:.0f} s")


async def seed(asking: Channel, headers: Mapping[str, str]) -> list[Seeded]:
    """Create operations, and wait until a worker has completed each. Raises Refused or TimeoutError."""
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
    """What is measured, each beside its bare counterpart."""

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
    """A `$batch` of creates of one call."""
    create = {"method": "POST", "url": path_of(call).removeprefix("/v1.0"), "headers": JSON, "body": EXAMPLE}
    return json.dumps({"requests": [{"id": str(number), **create} for number in range(BATCH)]}).encode()


async def offered(servers: Servers, row: Row) -> str:
    """Why the row cannot be measured; empty when it can. Every create of a $batch must have been answered 201."""
    async with channel(servers.ports[row.server]) as asking:
        try:
            answer = await asking.ask(row.requests[0], row.expected)
        except Refused as error:
            return str(error)
    if row.operations > 1:
        made = [one["status"] for one in json.loads(answer.body)["responses"]].count(201)
        return "" if made == row.operations else f"{made} of {row.operations} were created: {answer.body[:300]!r}"
    return ""
