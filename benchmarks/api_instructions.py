"""Instructions of the API process per operation, counted by callgrind, for the rows of part 1 of `make bench-api`."""

import asyncio
import tempfile
from itertools import cycle, islice
from pathlib import Path

from benchmarks import callgrind
from benchmarks.api_bare import Row, channel, environment, listening, rows, seed
from benchmarks.drain import free_port, fresh_server
from benchmarks.processes import running
from benchmarks.ratios import Figures, note
from benchmarks.trees import Tree
from tracker.cli.token import new_token

START_WITHIN = 600.0
"""The longest time in seconds until the API under callgrind listens. On a busy machine the API needs minutes."""
FEWER = 10
"""The factor by which there are fewer requests of a list and of a $batch, because each does the work of many."""


async def measure(tree: Tree, requests: int) -> Figures:
    """Count the instructions of all rows. An API without callgrind creates the operations that the rows read."""
    figures: Figures = {}
    token, line = new_token("bench", "bench")
    headers, port = {"Authorization": f"Bearer {token}"}, free_port()
    with tempfile.TemporaryDirectory() as directory:
        async with fresh_server("everysec") as (_, url, _):
            # The hash seed is fixed, because it decides where Python's dictionaries collide.
            env = {**environment(url, port, line), "PYTHONHASHSEED": "0"}
            async with running(*tree.tracker("serve"), env=env, cwd=tree.root):
                await listening(port)
                async with running(*tree.tracker("worker"), env=env, cwd=tree.root), channel(port) as asking:
                    seeded = await seed(asking, headers)
            counter = callgrind.command(Path(directory) / "callgrind")
            async with running(*counter, *tree.tracker("serve"), env=env, cwd=tree.root) as api:
                await listening(port, within=START_WITHIN)
                counts = callgrind.Counts(Path(directory) / "callgrind")
                for row in rows(seeded, headers):
                    if row.server == "ours":
                        count = await instructions_of(row, port, requests, api.pid, counts)
                        figures[f"API, {row.name}", "instructions/op"] = count
                        note(f"{tree.name}: {row.name}: {count:,.0f}")
    return figures


async def instructions_of(row: Row, port: int, requests: int, pid: int, counts: callgrind.Counts) -> float:
    """Send the row's requests one after another, first to warm up. Returns the instructions per operation."""
    number = max(1, requests // FEWER) if row.name in {"list of 100", "$batch"} else requests
    turns = cycle(row.requests)
    async with channel(port) as asking:
        for request in islice(turns, number):
            await asking.ask(request, row.expected)
        await mark(pid, counts)
        for request in islice(turns, number):
            await asking.ask(request, row.expected)
        return await mark(pid, counts) / (number * row.operations)


async def mark(pid: int, counts: callgrind.Counts) -> int:
    """How many instructions the process executed since the last mark. Other tasks of the API are among them."""
    dump = ("callgrind_control", "--dump=mark", str(pid))
    silent = asyncio.subprocess.DEVNULL
    await (await asyncio.create_subprocess_exec(*dump, stdout=silent, stderr=silent)).wait()
    return counts.following()
