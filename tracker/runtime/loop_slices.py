"""Slices of work on the event loop, so that other tasks run in between: of one long work, and of many at once."""

import asyncio
from collections import deque
from time import perf_counter
from typing import Final

TASKS_IN_A_TURN: Final = 16
"""How many tasks do their work in one turn of the event loop, if many wait for it."""
SLICE_SECONDS: Final = 0.001
"""The longest time for which one piece of work should hold the event loop, in seconds."""


class LoopSlice:
    """The present slice of a piece of work, which looks at `is_over` after each small step, and then calls `rest`."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether the work has held the event loop for long enough."""
        return perf_counter() > self._end

    async def rest(self) -> None:
        """Let all other tasks run that are ready. Then the next slice begins."""
        await asyncio.sleep(0)
        self._end = perf_counter() + SLICE_SECONDS


class LoopTurns:
    """Turns of the event loop for short work that many tasks want to do at once, such as to write to their streams.

    All tasks that are ready run before the loop looks at its sockets again. Here only a few of them are ready in each
    turn of the loop, and tenants are served one after another.
    """

    def __init__(self, at_once: int = TASKS_IN_A_TURN) -> None:
        self._at_once = self._left = at_once
        self._scheduled = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """For each tenant that waits, in the order of their turns: the futures of its tasks."""

    async def turn(self, tenant: str) -> None:
        """Return when it is the turn of the calling task: at once, unless many others have come before it."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._begin, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        await turn

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn of the loop."""
        was_used = self._left < self._at_once
        self._left = self._at_once
        while self._left and self._waiting:
            tenant = next(iter(self._waiting))
            tasks = self._waiting.pop(tenant)
            turn = tasks.popleft()
            if tasks:
                self._waiting[tenant] = tasks  # behind the other tenants
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._scheduled = was_used or self._left < self._at_once
        if self._scheduled:
            loop.call_soon(self._begin, loop)
