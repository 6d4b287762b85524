"""Speed of workers at draining a queue: `make bench-workers`, or `python -m benchmarks.workers`.

The tracker beside stock RQ, Celery, Dramatiq, Taskiq, arq and SAQ. Each system has one worker and does the same
tasks on the same machine, with results kept, on a Valkey with an append-only file at 127.0.0.1. Rounds alternate, and
figures are medians.

* `noop` answers its number. `sleep` waits 5 ms first, in a coroutine where the system has coroutines.
* A worker that has started is stopped by SIGSTOP, and the load is enqueued. The time runs from SIGCONT until the last
  result is in Redis. It holds neither the worker's start nor the client's work. One cheap command looks for the end,
  at most ten times a second until the end is near. Then every result is read by the interface that the system
  documents, and compared. The tracker's results are `Completed` records with the times of both transitions.
* `bytes/task` and `keys/task` are what is left in Redis after worker and client: `used_memory` and DBSIZE, less the
  values of the empty server.
* `CPU` is processor time per task: of the worker with all its processes, and of the server.

The tracker keeps a public record with its history per task, in four indexes. The others keep a result.

`--against COMMIT` measures the tracker only: this tree and the commit in turns. docs/benchmarks.md describes the rows.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from benchmarks import trees
from benchmarks.drain import Drain, Entry, Load, System, Unfinished, drain, fresh_server, started
from benchmarks.figures import Figures, table
from benchmarks.peers.system import CONCURRENCY, CORES
from benchmarks.ratios import Rounds, Turns, compare, in_turn, no_figures, note, report
from benchmarks.trees import Tree

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
NAMES = [entry.name for entry in SYSTEMS]
OWN = ["tracker", "tracker-functions"]
"""The systems that `--against` measures."""
QUICK = [*OWN, "rq-simple", "rq-worker"]
"""The systems that need no environment of their own."""


async def measure_all(entries: Sequence[Entry], load: Load, rounds: int) -> bool:
    """Measure all systems and print one table. Returns whether every drain came to its end."""
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
    show(entries, {name: took for name, took in drains.items() if name not in failures}, failures)
    return not failures


def show(entries: Sequence[Entry], drains: Mapping[str, Sequence[Drain]], failures: Mapping[str, str]) -> None:
    """Print the table, the systems that did not finish, and a description of each row."""
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


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Measure the tracker's worker of two trees in turns, and print ratios."""
    entries = [entry for entry in SYSTEMS if entry.name in set(options.systems) & set(OWN)]
    loads = [
        Load(workload, options.tasks, appendfsync, options.limit)
        for appendfsync in options.fsync
        for workload in options.workloads
    ]

    async def one_round(order: Sequence[Tree]) -> Turns:
        turns = no_figures(order, options.turns)
        for load in loads:
            for entry in entries:
                await take_turns(entry, load, order, turns)
        return turns

    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


async def take_turns(entry: Entry, load: Load, order: Sequence[Tree], turns: Turns) -> None:
    """Start the worker of both trees, each on a server of its own, and measure drains of both in turns."""
    row = f"{load.workload}, {entry.variant}, appendfsync {load.appendfsync}"
    async with AsyncExitStack() as stack:
        systems: dict[Tree, System] = {}
        for tree in order:
            _, url, server = await stack.enter_async_context(fresh_server(load.appendfsync))
            system = started(replace(entry, tree=tree), load, url, server)
            systems[tree] = await stack.enter_async_context(system)
        for number, turn in enumerate(turns):
            for tree in in_turn(order, number):
                one = await systems[tree].drain(load)
                note(f"{tree.name}, {row}: {one.rate:,.0f}/s")
                turn[tree][row, "tasks/s"] = one.rate
                turn[tree][row, "worker us/task"] = one.cpu / one.tasks * 1e6
                turn[tree][row, "Valkey us/task"] = one.server_cpu / one.tasks * 1e6


async def run(options: argparse.Namespace) -> bool:
    """Measure what the options ask for."""
    if options.against:
        await compare_trees(options, trees.checked_out(options.against))
        return True
    entries = [entry for entry in SYSTEMS if entry.name in options.systems]
    good = True
    for appendfsync in options.fsync:
        for workload in options.workloads:
            load = Load(workload, options.tasks, appendfsync, options.limit)
            good &= await measure_all(entries, load, options.rounds)
    return good


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 no-op tasks, without the peers (a minute)")
    parser.add_argument("--tasks", type=int, help="tasks per drain (5000)")
    parser.add_argument("--rounds", type=int, help="rounds at most (3; with --against 12)")
    parser.add_argument("--turns", type=int, help="drains of each tree per row and round of --against (5)")
    parser.add_argument("--limit", type=float, default=300.0, help="longest time of a drain in seconds (300)")
    parser.add_argument("--systems", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)} (all)")
    parser.add_argument("--workloads", nargs="+", choices=["noop", "sleep"], help="(both; with --against noop)")
    parser.add_argument(
        "--fsync", nargs="+", choices=["always", "everysec"], help="appendfsync (both; with --against everysec)"
    )
    trees.add_options(parser)
    options = parser.parse_args()
    if options.against:
        short = {"tasks": 500, "rounds": 1, "turns": 3} if options.quick else {"tasks": 5000, "rounds": 12, "turns": 5}
        defaults = {"systems": OWN, "workloads": ["noop"], "fsync": ["everysec"], **short}
    elif options.quick:
        defaults = {"tasks": 500, "rounds": 1, "turns": 1, "systems": QUICK, "workloads": ["noop"], "fsync": ["always"]}
    else:
        both = {"workloads": ["noop", "sleep"], "fsync": ["always", "everysec"]}
        defaults = {"tasks": 5000, "rounds": 3, "turns": 1, "systems": NAMES, **both}
    trees.fill_in(options, defaults)
    return options


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f} before the first round")
    sys.exit(0 if asyncio.run(run(parse())) else 1)
