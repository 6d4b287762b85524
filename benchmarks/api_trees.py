"""The API of two trees in turns: the rows of part 1, and the tracker's own rows of part 2, as figures of a round."""

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

from benchmarks import api_ends
from benchmarks.api_bare import Row, Servers, offered, opened, pinned
from benchmarks.api_contenders import CONTENDERS, LOOKS, TOLD, TOLD_AT_ONCE, Way
from benchmarks.api_figures import cost
from benchmarks.api_load import Burst
from benchmarks.ratios import NotMeasured, Rounds, compare, note, report
from benchmarks.trees import Tree

Figures = dict[tuple[str, str], float]
WAYS = (LOOKS[0], TOLD, TOLD_AT_ONCE)
"""How clients learn of the end: they poll without a pause, a read waits, or the create waits."""
TURNS = 2
"""How many bursts of each row a round has for each tree, in the order A B B A."""


async def compare_trees(options: argparse.Namespace, that: Tree) -> None:
    """Measure the API of two trees in turns, and print ratios."""

    async def one_round(order: Sequence[Tree]) -> Mapping[Tree, Figures]:
        figures: dict[Tree, Figures] = {tree: {} for tree in order}
        if options.part != 2:
            await part_1(order, options, figures)
        if options.part != 1:
            await part_2(order, options, figures)
        return figures

    report(await compare(that, Rounds(options.rounds, options.minutes), one_round), that)


async def in_turns(order: Sequence[Tree], burst: Callable[[Tree], Awaitable[Burst]]) -> dict[Tree, Burst]:
    """Measure both trees, each `TURNS` times, and join each tree's bursts."""
    bursts: dict[Tree, list[Burst]] = {tree: [] for tree in order}
    for turn in range(TURNS):
        for tree in order if turn % 2 == 0 else reversed(order):
            bursts[tree].append(await burst(tree))
    return {tree: Burst.joined(parts) for tree, parts in bursts.items()}


async def part_1(order: Sequence[Tree], options: argparse.Namespace, figures: Mapping[Tree, Figures]) -> None:
    """Start the API of both trees, and measure each row of one tree directly after the same row of the other."""
    async with AsyncExitStack() as stack:
        started: dict[Tree, tuple[Servers, list[Row]]] = {
            tree: await stack.enter_async_context(opened(options.fsync, tree=tree, bare=False)) for tree in order
        }
        stack.enter_context(pinned(servers for servers, _ in started.values()))
        for number in range(len(started[order[0]][1])):

            async def burst(tree: Tree, number: int = number) -> Burst:
                servers, rows = started[tree]
                return await burst_of(tree, servers, rows[number], options)

            row = started[order[0]][1][number].name
            for tree, one in (await in_turns(order, burst)).items():
                note(f"part 1, {tree.name}, {row}: {one.rate:,.0f}/s")
                figures[tree][row, "op/s"] = one.rate
                figures[tree][row, "API us/op"] = one.cost("server")
                figures[tree][row, "Valkey us/op"] = one.cost("valkey")


async def burst_of(tree: Tree, servers: Servers, row: Row, options: argparse.Namespace) -> Burst:
    """One burst of a row of part 1. Raises NotMeasured when the tree does not answer as expected."""
    if why := await offered(servers, row):
        raise NotMeasured(f"{tree.name}, {row.name}: {why[:200]}")
    return await servers.burst(row, connections=options.connections, seconds=options.seconds)


async def part_2(order: Sequence[Tree], options: argparse.Namespace, figures: Mapping[Tree, Figures]) -> None:
    """Start API and worker of both trees, and measure all ways of learning of the end."""
    async with AsyncExitStack() as stack:
        started: dict[Tree, api_ends.Stack] = {}
        for tree in order:
            contender = replace(CONTENDERS[0], tree=tree)
            started[tree], _ = await stack.enter_async_context(api_ends.started(contender, options.fsync))
        for way in WAYS:

            async def burst(tree: Tree, way: Way = way) -> Burst:
                return await started[tree].burst(way, seconds=options.seconds)

            for tree, one in (await in_turns(order, burst)).items():
                note(f"part 2, {tree.name}, {way}: {one.rate:,.0f}/s")
                figures[tree].update(end_figures(f"end to end, {way}", one))


def end_figures(row: str, burst: Burst) -> Figures:
    """The figures of one way in part 2."""
    return {
        (row, "op/s"): burst.rate,
        (row, "p50 ms"): median(burst.times) * 1000,
        (row, "us/op in all"): cost(burst),
        (row, "API us/op"): burst.cost("api"),
        (row, "worker us/op"): burst.cost("worker"),
        (row, "Valkey us/op"): burst.cost("valkey"),
    }
