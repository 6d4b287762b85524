"""One system of the benchmark, in its own environment: `python -m benchmarks.peers MODULE VARIANT WORKLOAD PART`.

As `worker` it becomes the system's worker. As `driver` it obeys lines of standard input, and answers each with a
line of JSON: `load N`, `watch SECONDS` (until all are done), `prove`.
"""

import asyncio
import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

from benchmarks.peers.system import System

SHORTEST, LONGEST = 0.002, 0.1
"""Seconds between two looks at how many tasks are done: half of what seems to be left, within these."""


def watch(system: System, seconds: float) -> dict[str, Any]:
    """Wait until every task is done; answer when that was, on the machine's monotonic clock, and how many are."""
    begun, wanted = time.monotonic(), len(system.ids)
    while True:
        done, now = system.done(), time.monotonic()
        if done >= wanted or now - begun > seconds:
            return {"done": done, "at": now}
        left = (wanted - done) * (now - begun) / done if done else LONGEST
        time.sleep(min(LONGEST, max(SHORTEST, left / 2)))


async def obey(system: System) -> None:
    """Answer commands until standard input ends. Numbers go on from one load to the next."""
    await system.open()
    answer({"versions": {name: version(name) for name in system.packages}})
    numbers = range(0)
    for line in sys.stdin:  # nothing else runs on this loop
        command, *rest = line.split()
        if command == "load":
            numbers = range(numbers.stop, numbers.stop + int(rest[0]))
            system.ids = await system.load(numbers)
            answer({"loaded": len(system.ids)})
        elif command == "watch":
            answer(watch(system, float(rest[0])))
        else:
            results = await system.results()
            answer({"proven": sum(result == number for result, number in zip(results, numbers, strict=True))})


def answer(message: dict[str, Any]) -> None:
    """Write one line of JSON."""
    print(json.dumps(message), flush=True)


def main(module: str, variant: str, workload: str, part: str) -> None:
    """Be the worker, or its driver."""
    system: System = import_module(f"benchmarks.peers.{module}").Queue(variant, workload)
    if part == "worker":
        argv = system.worker()
        os.execvp(argv[0], argv)
    asyncio.run(obey(system))


if __name__ == "__main__":
    main(*sys.argv[1:])
