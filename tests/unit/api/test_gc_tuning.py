"""Cycles are collected while the automatic collections are off, and these are on again afterwards."""

import gc
import weakref

import pytest

from tests.support.waiting import eventually
from tracker.api import gc_tuning
from tracker.runtime.background import beside


class Node:
    def __init__(self) -> None:
        self.me: Node | None = self


@pytest.mark.parametrize("old", [False, True])
async def test_cycles_are_found_whether_they_die_young_or_old(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    monkeypatch.setattr(gc_tuning, "YOUNG_INTERVAL", 0.01)
    monkeypatch.setattr(gc_tuning, "YOUNG_PER_FULL", 5 if old else 10**9)
    async with beside(gc_tuning.collect_regularly(lambda: False)):
        await eventually(disabled)
        node: Node | None = Node()
        dead = weakref.ref(node)
        if old:
            gc.collect(1)
        node = None

        async def gone() -> bool:
            return dead() is None

        await eventually(gone)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_full_collections_are_put_off_while_the_process_is_busy_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gc_tuning, "YOUNG_INTERVAL", 0.0)
    monkeypatch.setattr(gc_tuning, "YOUNG_PER_FULL", 3)
    calls: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda generation=2: calls.append("young" if generation < 2 else "full"))
    async with beside(gc_tuning.collect_regularly(lambda: True)):

        async def collected() -> bool:
            return calls.count("full") >= 2

        await eventually(collected)
    assert calls[0] == "full"  # the one at the start
    assert calls[1:].index("full") == 3 * (gc_tuning.MOST_PUT_OFF + 1)


async def disabled() -> bool:
    return not gc.isenabled()
