"""Instructions of the Valkey server per operation: `make bench-instructions`, or `python -m benchmarks.instructions`.

callgrind (valgrind) counts the instructions that the server's process executes: the script, the network, the
append-only file. A count hardly depends on what else the machine does, so that it shows a change of one or two per
cent where a time cannot. Each row is one kind of script call, with 1 or 16 operations in each call:

* create: `create.lua`, for operations without id, delay and idempotency key.
* claim: `claim.lua`, for a worker with room for as many coroutines.
* beat: `beat.lua`, for operations that run.
* change: `change.lua`, for operations that end as Completed, with a plain result.

The calls come from the tree's own store, by `in_tree/store_driver.py`. Both trees get the same server program.
"""

import argparse
import asyncio
from collections.abc import Sequence

from benchmarks import callgrind, trees
from benchmarks.ratios import Figures, Rounds, Turns, compare, note, report, shown
from benchmarks.store_calls import StoreCalls, store_calls
from benchmarks.trees import THIS, Tree

BATCHES = (1, 16)
WARM_UP = 64
"""How many operations go through all calls before the count begins."""
COMMANDS = {"create": "create", "claim": "claim", "beat": "beat", "change": "succeed"}
"""The driver's command for each row."""


async def measure(tree: Tree, operations: int) -> Figures:
    """Count the instructions of all rows, on a new server."""
    figures = {}
    async with callgrind.counted_server() as server, store_calls(tree, server.url) as calls:
        for size in BATCHES:
            for command in COMMANDS.values():
                await step(calls, command, WARM_UP, size)
            server.mark()
            for name, command in COMMANDS.items():
                await step(calls, command, operations, size)
                row, count = f"{name}, {size} at once", server.mark() / operations
                figures[row, "instructions/op"] = count
                note(f"{tree.name}: {row}: {count:,.0f}")
    return figures


async def step(calls: StoreCalls, command: str, operations: int, size: int) -> None:
    """Have one kind of call made. Exits when a claim got less than it had room for, which is another measurement."""
    answer = await calls.ask(f"{command} {operations} {size}")
    if answer.get("calls", operations // size) != operations // size:
        raise SystemExit(f"{operations} operations took {answer['calls']} claims of {size}")


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Count for both trees, and print ratios."""

    async def one_round(order: Sequence[Tree]) -> Turns:
        return [{tree: await measure(tree, options.operations) for tree in order}]

    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


async def main(options: argparse.Namespace) -> None:
    """Count, and print."""
    callgrind.valgrind()
    if options.against:
        await compare_trees(options, trees.checked_out(options.against))
        return
    for (row, unit), figure in (await measure(THIS, options.operations)).items():
        print(f"{row:20} {shown(figure):>10} {unit}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 operations per row, one round (a minute)")
    parser.add_argument("--operations", type=int, help="operations per row, a multiple of 16 (480)")
    parser.add_argument("--rounds", type=int, help="rounds of --against at most (2)")
    trees.add_options(parser)
    options = parser.parse_args()
    trees.fill_in(options, {"operations": 64, "rounds": 1} if options.quick else {"operations": 480, "rounds": 2})
    if options.operations % max(BATCHES):
        parser.error(f"--operations: {options.operations} is no multiple of {max(BATCHES)}")
    return options


if __name__ == "__main__":
    asyncio.run(main(parse()))
