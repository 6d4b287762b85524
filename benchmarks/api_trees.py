"""The API of two trees in turns: the rows of part 1, and the tracker's own rows of part 2."""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

from benchmarks import api_ends
from benchmarks.api_bare import Row, Servers, offered, opened, pinned
from benchmarks.api_contenders import CONTENDERS, LOOKS, TOLD, TOLD_AT_ONCE, Way
from benchmarks.api_figures import cost
from benchmarks.api_load import WARM_UP, Burst
from benchmarks.ratios import Figures, NotMeasured, Rounds, Turns, compare, in_turn, no_figures, note, report
from benchmarks.trees import Tree

WAYS = (LOOKS[0], TOLD, TOLD_AT_ONCE)
"""How clients learn of the end: they poll without a pause, a read waits, or the create waits."""
LONGER = 3
"""How many times longer a burst of part 2 is. Its operations take longer, and those that are under way when the time
begins and ends make the figures inexact.
"""


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Measure the API of two trees in turns, and print ratios."""

    async def one_round(order: Sequence[Tree]) -> Turns:
        turns = no_figures(order, options.turns)
        if options.part != 2:
            await part_1(order, options, turns)
        if options.part != 1:
            await part_2(order, options, turns)
        return turns

    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


async def take_turns(
    name: str, turns: Turns, burst: Callable[[Tree], Awaitable[Burst]], figures: Callable[[Burst], Figures]
) -> None:
    """Measure one row of both trees in each turn, one tree directly after the other."""
    for number, turn in enumerate(turns):
        for tree in in_turn(list(turn), number):
            one = await burst(tree)
            note(f"{tree.name}, {name}: {one.rate:,.0f}/s")
            turn[tree].update(figures(one))


async def part_1(order: Sequence[Tree], options: argparse.Namespace, turns: Turns) -> None:
    """Start the API of both trees, and measure the rows of part 1."""
    async with AsyncExitStack() as stack:
        started: dict[Tree, tuple[Servers, Sequence[Row]]] = {
            tree: await stack.enter_async_context(opened(options.fsync, tree=tree, bare=False)) for tree in order
        }
        stack.enter_context(pinned(servers for servers, _ in started.values()))
        for number, row in enumerate(started[order[0]][1]):

            async def burst(tree: Tree, number: int = number) -> Burst:
                servers, rows = started[tree]
                return await servers.burst(rows[number], connections=options.connections, seconds=options.seconds)

            def figures(one: Burst, name: str = row.name) -> Figures:
                return {
                    (name, "op/s"): one.rate,
                    (name, "API us/op"): one.cost("server"),
                    (name, "Valkey us/op"): one.cost("valkey"),
                }

            for tree, (servers, rows) in started.items():
                if why := await offered(servers, rows[number]):
                    raise NotMeasured(f"{tree.name}, {row.name}: {why[:200]}")
            await take_turns(row.name, turns, burst, figures)


async def part_2(order: Sequence[Tree], options: argparse.Namespace, turns: Turns) -> None:
    """Start API and worker of both trees, and measure all ways of learning of the end."""
    async with AsyncExitStack() as stack:
        started: dict[Tree, api_ends.Stack] = {}
        for tree in order:
            contender = replace(CONTENDERS[0], tree=tree)
            started[tree], _ = await stack.enter_async_context(api_ends.started(contender, options.fsync))
        for way in WAYS:
            row = f"end to end, {way}"

            async def burst(tree: Tree, way: Way = way) -> Burst:
                return await started[tree].burst(way, seconds=options.seconds * LONGER, warm_up=WARM_UP)

            def figures(one: Burst, row: str = row) -> Figures:
                return {
                    (row, "op/s"): one.rate,
                    (row, "p50 ms"): median(one.times) * 1000,
                    (row, "us/op in all"): cost(one),
                    (row, "API us/op"): one.cost("api"),
                    (row, "worker us/op"): one.cost("worker"),
                    (row, "Valkey us/op"): one.cost("valkey"),
                }

            await take_turns(row, turns, burst, figures)
