"""Load of part 2 of `make bench-api`: each client creates an operation, learns of its end, and begins again."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count

from benchmarks import operations
from benchmarks.api_bare import TENANT, channel, environment, listening, path_of
from benchmarks.api_contenders import LOOKS, Contender, Way
from benchmarks.api_load import Burst, Channel, Refused, drive, request
from benchmarks.drain import free_port, fresh_server
from benchmarks.processes import running
from tracker.cli.token import new_token

CLIENTS = 64
"""The number of clients. Each has a connection, and one operation at a time."""
WARM_UP = 1.0
"""Seconds of load before the time runs."""
LIMIT, AGAIN = 30.0, 3.0
"""The longest time in seconds from the start of a system to its first end, and for each try before that."""


class Stack:
    """A contender's running processes: Valkey, its service, and one worker."""

    def __init__(self, contender: Contender, port: int, watched: Mapping[str, int], headers: dict[str, str]) -> None:
        self.contender, self.watched, self._port, self._headers = contender, watched, port, headers
        self._numbers = count()

    async def burst(self, way: Way, *, seconds: float, warm_up: float = WARM_UP) -> Burst:
        """Run all clients for `seconds`. Raises Refused."""
        channels = [await Channel.open(self._port) for _ in range(CLIENTS)]
        try:
            steps = [partial(self._once, channel, way, client) for client, channel in enumerate(channels)]
            return await drive(steps, seconds=seconds, watched=self.watched, warm_up=warm_up)
        finally:
            for channel in channels:
                channel.close()

    async def first(self) -> None:
        """Wait until one operation has ended. There are several tries: a worker may lose a task while it starts."""
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
            raise Refused(f"the answer to {number} was {answer!r}")

    async def _ours(self, channel: Channel, way: Way, client: int, number: int) -> object:
        path = path_of(f"client-{client}")
        body = json.dumps({"@odata.type": operations.Noop.odata_type, "number": number}).encode()
        preference = {"Prefer": "respond-async, wait=30"} if way.at_once else {}
        answer = await channel.ask(request("POST", path, body=body, headers=self._headers | preference), 201)
        operation = json.loads(answer.body)
        if way.at_once and operation["status"] != "Completed":
            raise Refused("a create is not held until its operation has ended")
        path = f"{path}/{operation['id']}"
        while operation["status"] != "Completed":
            preference = {"Prefer": "wait=30", "If-None-Match": answer.header(b"etag").decode()} if way.waits else {}
            answer = await channel.ask(request("GET", path, headers=self._headers | preference), 200)
            operation = json.loads(answer.body)
            if way.every and operation["status"] != "Completed":
                await asyncio.sleep(way.every)
        return operation["answer"]

    async def _theirs(self, channel: Channel, way: Way, _: int, number: int) -> object:
        body = b'{"number":%d}' % number
        if way.at_once:
            answer = await channel.ask(request("POST", f"/jobs/done?every={way.every}", body=body), 200)
            return json.loads(answer.body)["result"]
        answer = await channel.ask(request("POST", "/jobs", body=body), 202)
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
    """Start a contender with a Valkey of its own. Yields it, and the versions of its packages.

    Raises Refused when it is not installed or does not start.
    """
    if not contender.python.exists():
        raise Refused("the system is not installed; `make bench-api` installs all systems")
    token, line = new_token("bench", TENANT)
    port = free_port()
    async with fresh_server(appendfsync) as (_, url, valkey):
        env = environment(url, port, line)
        async with (
            running(*contender.api(port), env=env, pipes=True, cwd=contender.tree.root) as api,
            running(*contender.worker(), env=env, cwd=contender.tree.root) as worker,
        ):
            assert api.stdout is not None
            said = (await api.stdout.readline()).decode().strip()
            await listening(port)
            watched = {"api": api.pid, "worker": worker.pid, "valkey": valkey}
            stack = Stack(contender, port, watched, {"Authorization": f"Bearer {token}"})
            await stack.first()
            yield stack, said if contender.framework else ""
