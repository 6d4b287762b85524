"""End to end over HTTP: clients create an operation, wait until it is completed, read its answer, and go on."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import operations
from benchmarks.api_bare import TENANT, TRACKER, channel, environment, listening, path_of
from benchmarks.api_load import Burst, Channel, Refused, drive, request
from benchmarks.drain import free_port, fresh_server
from benchmarks.processes import ROOT, running
from tracker.cli.token import new_token

CLIENTS = 64
"""Clients, each with a connection of its own, that have one operation under way each."""
WARM_UP = 1.0
LIMIT, AGAIN = 30.0, 3.0
"""Seconds from the start of a system to its first answer, and seconds after which it is asked for another."""
OURS = "tracker"


@dataclass(frozen=True, slots=True)
class Way:
    """How a client learns of the end: it looks every so many seconds, or asks to be answered when it has come."""

    waits: bool
    every: float = 0.0

    def __str__(self) -> str:
        """In a word or two."""
        every = f" {self.every * 1000:.0f} ms" if self.every or not self.waits else ""
        return f"{'waits' if self.waits else 'looks'}{every}"


LOOKS = tuple(Way(waits=False, every=every) for every in (0.0, 0.005, 0.02))
TOLD = (Way(waits=True),)
"""Where the server is told of the end."""
LOOKING = tuple(Way(waits=True, every=every) for every in (0.005, 0.02))
"""Where the server looks again while the client waits."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A queue, and the framework of the service before it."""

    queue: str
    framework: str = ""
    ways: tuple[Way, ...] = (*LOOKS, *TOLD)

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.queue}, {self.framework}" if self.framework else self.queue

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / ".venv-bench" / f"api-{self.queue}" / "bin" / "python" if self.framework else Path(sys.executable)

    def api(self, port: int) -> tuple[str, ...]:
        """The command line of its service, whose first line of output comes when it starts."""
        if not self.framework:
            return (*TRACKER, "serve")
        return (str(self.python), "-m", "benchmarks.web", self.queue, self.framework, str(port))

    def worker(self) -> tuple[str, ...]:
        """The command line of its worker."""
        return (str(self.python), "-m", "benchmarks.peers", self.queue, "coroutines", "noop", "worker")


CONTENDERS = [
    Contender(OURS),
    *(
        Contender(queue, framework, (*LOOKS, *waits))
        for queue, waits in {"arq": LOOKING, "celery": TOLD, "saq": TOLD, "taskiq": LOOKING}.items()
        for framework in ("aiohttp", "fastapi")
    ),
]


class Stack:
    """A contender that runs: Valkey, its service, and one worker."""

    def __init__(self, contender: Contender, port: int, watched: Mapping[str, int], headers: Mapping[str, str]) -> None:
        self.contender, self._port, self._watched, self._headers = contender, port, watched, headers
        self._numbers = count()

    async def burst(self, way: Way, *, seconds: float) -> Burst:
        """Have all clients create and wait for so long. Raises Refused."""
        channels = [await Channel.open(self._port) for _ in range(CLIENTS)]
        try:
            steps = [partial(self._once, channel, way, client) for client, channel in enumerate(channels)]
            return await drive(steps, seconds=seconds, watched=self._watched, warm_up=WARM_UP)
        finally:
            for channel in channels:
                channel.close()

    async def first(self) -> None:
        """Wait until the whole way has been gone once. What a worker that starts loses is started again."""
        for _ in range(round(LIMIT / AGAIN)):
            async with channel(self._port) as asking:
                with suppress(TimeoutError):
                    return await asyncio.wait_for(self._once(asking, LOOKS[-1], 0), AGAIN)
        raise Refused(f"no answer within {LIMIT:.0f} s")

    async def _once(self, channel: Channel, way: Way, client: int) -> None:
        number = next(self._numbers)
        through = self._theirs if self.contender.framework else self._ours
        answer = await through(channel, way, client, number)
        if answer != number:
            raise Refused(f"{answer!r} was answered to {number}")

    async def _ours(self, channel: Channel, way: Way, client: int, number: int) -> object:
        path = path_of(f"client-{client}")
        body = json.dumps({"@odata.type": operations.Noop.odata_type, "number": number}).encode()
        answer = await channel.ask(request("POST", path, body=body, headers=self._headers), 201)
        operation = json.loads(answer.body)
        path = f"{path}/{operation['id']}"
        while operation["status"] != "Completed":
            headers = dict(self._headers)
            if way.waits:
                headers |= {"Prefer": "wait=30", "If-None-Match": answer.header(b"etag").decode().replace("w/", "W/")}
            answer = await channel.ask(request("GET", path, headers=headers), 200)
            operation = json.loads(answer.body)
            if way.every and operation["status"] != "Completed":
                await asyncio.sleep(way.every)
        return operation["answer"]

    async def _theirs(self, channel: Channel, way: Way, _: int, number: int) -> object:
        answer = await channel.ask(request("POST", "/jobs", body=b'{"number":%d}' % number), 202)
        path = f"/jobs/{json.loads(answer.body)['id']}"
        asking = request("GET", f"{path}/wait?every={way.every}" if way.waits else path)
        while True:
            job = json.loads((await channel.ask(asking, 200)).body)
            if job["status"] == "done":
                return job["result"]
            if way.every:
                await asyncio.sleep(way.every)


@asynccontextmanager
async def started(contender: Contender, appendfsync: str) -> AsyncIterator[tuple[Stack, str]]:
    """Start a contender with a Valkey of its own; yields it and the versions of what it is made of.

    Raises Refused, also when it does not come up.
    """
    if not contender.python.exists():
        raise Refused("it is not installed: `make bench-api` does that")
    token, line = new_token("bench", TENANT)
    port = free_port()
    async with fresh_server(appendfsync) as (_, url, valkey):
        env = environment(url, port, line)
        async with (
            running(*contender.api(port), env=env, pipes=True) as api,
            running(*contender.worker(), env=env) as worker,
        ):
            assert api.stdout is not None
            said = (await api.stdout.readline()).decode().strip()
            await listening(port)
            watched = {"api": api.pid, "worker": worker.pid, "valkey": valkey}
            stack = Stack(contender, port, watched, {"Authorization": f"Bearer {token}"})
            await stack.first()
            yield stack, said if contender.framework else ""
