"""How fast workers drain a queue: `python -m benchmarks.workers`, or `make bench-workers`.

Ours beside stock RQ, Celery, Dramatiq, Taskiq, arq and SAQ: the same tasks, one worker each, the same Valkey on
the same machine (over 127.0.0.1, with its append-only file), results kept. Rounds alternate, figures are medians.

* `noop` answers the number it was given; `sleep` waits 5 ms first, in a coroutine where the system has those.
* A worker that is up and warm is stopped (SIGSTOP), the load is enqueued, and the time runs from SIGCONT until the
  last result is in Redis: nobody pays for its start, nor for the client. It is looked for by one cheap command, ten
  times a second at most until the end is near. Then every result is read through the interface that the system's
  documentation names, and compared; for ours these are records `Completed`, with the stamps of both transitions.
* bytes and keys per task are what is left in Redis when everybody has left: `used_memory` and DBSIZE, less those of
  the empty server.
* CPU is processor time per task: of the worker with all its processes, and of the server.

What ours keeps per task is a public record with its history, in four indexes; the others keep a result.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

from benchmarks.drain import Drain, Entry, Load, Unfinished, drain
from benchmarks.figures import Figures, table
from benchmarks.peers.system import CONCURRENCY, CORES

SIMPLE = "rq-simple"
SYSTEMS = [
    Entry("tracker", "tracker", "coroutines", f"coroutines, {CONCURRENCY} at once, in one process", peer=False),
    Entry("tracker-functions", "tracker", "functions", f"plain functions in {CORES} processes", peer=False),
    Entry(SIMPLE, "rq", "SimpleWorker", "one function after another, in the worker's process"),
    Entry("rq-worker", "rq", "Worker", "one function after another, each in a process forked for it"),
    Entry("celery", "celery", "", f"noop: prefork, {CORES} processes; sleep: {CONCURRENCY} threads"),
    Entry("dramatiq", "dramatiq", "", "32 threads in one process"),
    Entry("taskiq", "taskiq", "", f"coroutines, {CONCURRENCY} at once; streams, uvloop"),
    Entry("arq", "arq", "", f"coroutines, {CONCURRENCY} at once; polls every 0.1 s, uvloop"),
    Entry("saq", "saq", "", f"coroutines, {CONCURRENCY} at once; uvloop"),
]
QUICK = ("tracker", "tracker-functions", "rq-simple", "rq-worker")
"""What the project installs anyway."""


async def compare(entries: Sequence[Entry], load: Load, rounds: int) -> bool:
    """Measure and print one table; returns whether all came to their ends."""
    drains: dict[str, list[Drain]] = {}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for entry in entries:
            try:
                one = await drain(entry, load)
            except Unfinished as error:
                failures[entry.name] = str(error)
                note(f"{load.workload} {number} {entry.name}: not finished: {error}")
            else:
                drains.setdefault(entry.name, []).append(one)
                note(f"{load.workload} {number} {entry.name}: {one.rate:,.0f}/s")
    print(f"\n{load.workload}, {load.tasks:,} tasks, appendfsync {load.appendfsync}, rounds: {rounds}\n")
    report(entries, {name: took for name, took in drains.items() if name not in failures}, failures)
    return not failures


def report(entries: Sequence[Entry], drains: Mapping[str, Sequence[Drain]], failures: Mapping[str, str]) -> None:
    """Print the table, what did not finish, and what each row is."""
    figures = {name: Figures.of(took) for name, took in drains.items()}
    for line in table(figures, simple=SIMPLE, peers=[entry.name for entry in entries if entry.peer]):
        print(f"  {line}")
    for name, reason in failures.items():
        print(f"  {name}: not finished: {reason}")
    print()
    for entry in entries:
        if took := drains.get(entry.name):
            versions = ", ".join(f"{package} {version}" for package, version in took[0].versions.items())
            print(f"  {entry.name}: {entry.runs} ({versions})")
    sys.stdout.flush()


def note(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


async def run(options: argparse.Namespace) -> bool:
    """Measure everything that was asked for."""
    entries = [entry for entry in SYSTEMS if entry.name in options.systems]
    good = True
    for appendfsync in options.fsync:
        for workload in options.workloads:
            load = Load(workload, options.tasks, appendfsync, options.limit)
            good &= await compare(entries, load, options.rounds)
    return good


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [entry.name for entry in SYSTEMS]
    parser.add_argument("--quick", action="store_true", help="1 round of 500 no-op tasks, without the peers (a minute)")
    parser.add_argument("--tasks", type=int, help="tasks per drain (5000)")
    parser.add_argument("--rounds", type=int, help="rounds (3)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that a drain may take (300)")
    parser.add_argument("--systems", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--workloads", nargs="+", choices=["noop", "sleep"], help="(both)")
    parser.add_argument("--fsync", nargs="+", choices=["always", "everysec"], help="appendfsync of the server (both)")
    options = parser.parse_args()
    quick = {"tasks": 500, "rounds": 1, "systems": QUICK, "workloads": ["noop"], "fsync": ["always"]}
    full = {
        "tasks": 5000,
        "rounds": 3,
        "systems": names,
        "workloads": ["noop", "sleep"],
        "fsync": ["always", "everysec"],
    }
    for name, value in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f} before the first round")
    sys.exit(0 if asyncio.run(run(parse())) else 1)
