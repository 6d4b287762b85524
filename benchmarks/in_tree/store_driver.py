"""Driver of a tree's store. It reads commands from standard input, and runs with that tree's Python.

A comparison of two trees runs this file in both. The other tree may be older, with other names of modules, so this
file imports nothing of `benchmarks`, and looks for each name in every module that has had it. Where a later tree has
another form of a call, its function here tries both forms.

Each line of input is a command, and each line of output its answer as JSON. All operations belong to one call and
one tenant. Batches are made one after another, and each batch is one call of its script:

* `create N SIZE`: create N operations in batches of SIZE. The answer has their `keys` and `ids`.
* `claim N SIZE`: claim N operations, the oldest first. The answer has the number of script calls as `calls`.
* `beat N SIZE`, `succeed N SIZE`, `fail N SIZE`: renew the leases of the N oldest running operations, or end
  these operations.
* `end N RATE`: let the N oldest running operations succeed, RATE a second, in a batch every 20 ms.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any
from uuid import UUID

CALL, TENANT, WORKER = "bench", "default", "bench"
LEASE = 3600.0
"""Seconds. Nothing renews these leases while a benchmark runs."""
EVERY = 0.02
"""Seconds between two batches of `end`."""


def find(name: str, *modules: str) -> Any:
    """The attribute of that name, from the first module that has it."""
    for module in modules:
        with suppress(ImportError, AttributeError):
            return getattr(import_module(module), name)
    raise SystemExit(f"{name} is in none of {', '.join(modules)}: name the module that has it, in {__file__}")


load = find("load", "tracker.config")
open_redis = find("open_redis", "tracker.store.connection", "tracker.connection")
Store = find("Store", "tracker.store.store", "tracker.store")
pack = find("pack", "tracker.store.store", "tracker.store")
Room = find("Room", "tracker.store.script_replies", "tracker.verdicts")
Record = find("Record", "tracker.domain.record", "tracker.model")
Policy = find("Policy", "tracker.domain.policy", "tracker.model")
DONE = find("DONE", "tracker.domain.operation", "tracker.model")
LOST = find("LOST", "tracker.domain.operation", "tracker.model")
COMMS_OPERATION = find("COMMS_OPERATION", "tracker.domain.type_registry", "tracker.types")
canonical = find("canonical", "tracker.domain.type_registry", "tracker.types")
succeed = find("succeed", "tracker.domain.lifecycle", "tracker.lifecycle")
fail = find("fail", "tracker.domain.lifecycle", "tracker.lifecycle")


class Calls:
    """The commands. `running` holds the operations that are claimed and have not ended, the oldest first."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._random = random.Random(1)  # the same keys in every tree and run: they decide where a hash table collides
        self._policy = Policy()
        self._claims = 0
        self.running: list[Any] = []

    async def create(self, count: int, size: int) -> dict[str, Any]:
        """Create operations."""
        keys = [self._uuid() for _ in range(count)]
        for batch in batches(keys, size):
            await asyncio.gather(*(self._store.create(self._record(key)) for key in batch))
        return {"keys": [key.hex for key in keys], "ids": [str(key) for key in keys]}

    async def claim(self, count: int, size: int) -> dict[str, Any]:
        """Begin attempts."""
        room, wanted, calls = Room(size, 0, {canonical(COMMS_OPERATION): "coroutines"}), len(self.running) + count, 0
        while len(self.running) < wanted:
            name = self._uuid().hex
            claims = await self._store.claim(WORKER, room, batch=name, turn=self._claims, lease=LEASE)
            if not claims.started:
                raise SystemExit("the store has nothing more to claim")
            self.running += claims.started
            self._claims += 1
            calls += 1
        return {"calls": calls}

    async def beat(self, count: int, size: int) -> dict[str, Any]:
        """Renew leases."""
        for batch in batches(self.running[:count], size):
            check(await self._store.beat([(record.key, record.attempt) for record in batch], lease=LEASE))
        return {}

    async def succeed(self, count: int, size: int) -> dict[str, Any]:
        """End operations with the result that a handler's plain return has."""
        return await self._write([succeed(record, DONE, {}) for record in self._taken(count)], size)

    async def fail(self, count: int, size: int) -> dict[str, Any]:
        """End operations, without another attempt."""
        return await self._write([fail(record, LOST, {}, again=False) for record in self._taken(count)], size)

    async def end(self, count: int, rate: int) -> dict[str, Any]:
        """Let operations succeed at a rate."""
        begun, done = time.monotonic(), 0
        while done < count:
            due = min(count, int((time.monotonic() - begun) * rate))
            if due > done:
                await self.succeed(due - done, due - done)
                done = due
            await asyncio.sleep(EVERY)
        return {"seconds": time.monotonic() - begun}

    async def _write(self, changes: Sequence[Any], size: int) -> dict[str, Any]:
        for batch in batches(changes, size):
            check(await self._store.write([pack(change) for change in batch]))
        return {}

    def _taken(self, count: int) -> list[Any]:
        taken, self.running = self.running[:count], self.running[count:]
        return taken

    def _record(self, key: UUID) -> Any:
        return Record(key.hex, TENANT, CALL, str(key), COMMS_OPERATION, digest=key.hex, policy=self._policy)

    def _uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items in batches."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def check(words: Sequence[str]) -> None:
    """Exit unless the store did all that it was asked for."""
    if set(words) != {"OK"}:
        raise SystemExit(f"the store answered {sorted(set(words))}, not OK")


async def main() -> None:
    """Answer commands until standard input ends."""
    settings = load()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        await store.ready()
        calls = Calls(store)
        for line in sys.stdin:  # nothing else runs on this loop
            command, *numbers = line.split()
            print(json.dumps(await getattr(calls, command)(*map(int, numbers))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
