"""Worker and driver of one system, in its own environment: `python -m benchmarks.peers MODULE VARIANT WORKLOAD PART`.

With the part `worker` the process becomes the system's worker. With the part `driver` it reads commands from standard
input, and answers each with a line of JSON: `load N` enqueues N tasks, `watch SECONDS` waits until all are done, and
`prove` compares the results.

A comparison of two trees runs this command in the other tree's checkout, so the commands and answers of the module
`tracker` stay as they are.
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
"""Bounds in seconds of the pause between two counts of the tasks that are done. The pause is half of the time left."""


def watch(system: System, seconds: float) -> dict[str, Any]:
    """Wait until every task is done. Answers how many are done, and the time on the machine's monotonic clock."""
    begun, wanted = time.monotonic(), len(system.ids)
    while True:
        done, now = system.done(), time.monotonic()
        if done >= wanted or now - begun > seconds:
            return {"done": done, "at": now}
        left = (wanted - done) * (now - begun) / done if done else LONGEST
        time.sleep(min(LONGEST, max(SHORTEST, left / 2)))


async def obey(system: System) -> None:
    """Answer commands until standard input ends. Each load continues the numbers of the load before."""
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
    """Write an answer as one line of JSON."""
    print(json.dumps(message), flush=True)


def main(module: str, variant: str, workload: str, part: str) -> None:
    """Run the worker or the driver."""
    system: System = import_module(f"benchmarks.peers.{module}").Queue(variant, workload)
    if part == "worker":
        argv = system.worker()
        os.execvp(argv[0], argv)
    asyncio.run(obey(system))


if __name__ == "__main__":
    main(*sys.argv[1:])
