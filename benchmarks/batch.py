"""Speed of creates over HTTP, one by one and 20 in a `$batch`: `python -m benchmarks.batch`.

The benchmark starts a private Valkey (`appendfsync always`) and one API process. The API runs on the first core; the
clients and Valkey run on the last core. Each client keeps one connection, and sends its next request when the answer to
the request before has come (a closed loop). Both forms are measured in turns, and every answer is checked. On a machine
that does other work too, trust the rate per second of the API's processor time.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

import aiohttp

from benchmarks.latency import PATH, TRACKER, until_ready
from benchmarks.processes import cpu_seconds, running
from tracker.runtime.dev_valkey import start_server

PORT = 18098
TURNS = 3
"""How often each form is measured."""
SIZE = 20
"""How many creates a batch has."""
BODY = {"@odata.type": "#microsoft.graph.commsOperation", "clientContext": "Client Context value"}


def written(path: str, body: object) -> bytes:
    """The bytes of a POST request."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


ONE = written(PATH, BODY)
REQUEST = {"method": "POST", "url": PATH, "headers": {"Content-Type": "application/json"}, "body": BODY}
MANY = written("/$batch", {"requests": [{"id": str(number), **REQUEST} for number in range(SIZE)]})


class Client(asyncio.Protocol):
    """One connection in a closed loop. `made` is how many operations each request creates."""

    def __init__(self, request: bytes, made: int) -> None:
        self.request, self.made = request, made
        self.answers = 0
        self._data = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer. When the answer is complete, count it and send the next request."""
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = int(self._data[: head + 2].partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        if len(self._data) < head + 4 + length:
            return
        created = self._data.startswith(b"HTTP/1.1 201") or self._data.count(b'"status":201') == self.made
        assert created, bytes(self._data)
        self._data.clear()
        self.answers += 1
        self._transport.write(self.request)

    def stop(self) -> None:
        """End the loop and close the connection."""
        self._transport.abort()


async def rate(request: bytes, made: int, *, clients: int, seconds: float, server: int) -> tuple[float, float]:
    """Operations per second, and the share of one core that the API used."""
    loop = asyncio.get_running_loop()
    protocols = []
    for _ in range(clients):
        _, protocol = await loop.create_connection(lambda: Client(request, made), "127.0.0.1", PORT)
        protocols.append(protocol)
    await asyncio.sleep(0.5)
    begun, before, busy = time.perf_counter(), sum(one.answers for one in protocols), cpu_seconds(server)
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begun
    answers, busy = sum(one.answers for one in protocols) - before, cpu_seconds(server) - busy
    for protocol in protocols:
        protocol.stop()
    return answers * made / took, busy / took


async def main(clients: int, seconds: float) -> None:
    """Measure both forms in turns, and print their ratio."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    async with running(*TRACKER, "serve", env={}) as api, aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as http:
        await until_ready(http)
        os.sched_setaffinity(0, {cores[-1]})
        singles, batches = [], []
        for _ in range(TURNS):
            singles.append(await rate(ONE, 1, clients=clients, seconds=seconds, server=api.pid))
            batches.append(await rate(MANY, SIZE, clients=clients, seconds=seconds, server=api.pid))
    for name, rates in (("one by one", singles), (f"{SIZE} in a batch", batches)):
        wall, busy = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"{name:16} {wall:9.0f} creates/s   {wall / busy:9.0f} per second of the API's processor", flush=True)
    pairs = list(zip(batches, singles, strict=True))
    by_wall = statistics.median(many / one for (many, _), (one, _) in pairs)
    by_processor = statistics.median((many / used) / (one / busy) for (many, used), (one, busy) in pairs)
    print(f"{'ratio':16} {by_wall:9.2f}             {by_processor:9.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16, help="connections (16)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement in seconds (5)")
    arguments = parser.parse_args()
    own = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {own[-1]})
    with tempfile.TemporaryDirectory() as directory:
        redis = start_server(Path(directory))
        os.environ.update(REDIS_URL=redis.url, TRACKER_AUTH="none", TRACKER_PORT=str(PORT), TRACKER_LOG_LEVEL="warning")
        try:
            os.sched_setaffinity(0, set(own))
            asyncio.run(main(arguments.clients, arguments.seconds))
        finally:
            redis.stop()
