"""Waiting by condition, with one generous bound.

The bound only ends a test that would wait for ever. It says nothing about speed: a loaded machine takes many times as
long as an idle one. No test asserts how long something takes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LONGEST_WAIT = 60.0
"""Longest time in seconds that a test waits for something that must happen."""


async def eventually(check: Callable[[], Awaitable[T | None]]) -> T:
    """Call `check` until its result is true, and return that result.

    Raises AssertionError, which shows the last result, after LONGEST_WAIT.
    """
    deadline = asyncio.get_running_loop().time() + LONGEST_WAIT
    while True:
        result = await check()
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            name = getattr(check, "__qualname__", check)
            raise AssertionError(f"not within {LONGEST_WAIT} s: {name}; last result {result!r}")
        await asyncio.sleep(0.02)


async def soon(awaitable: Awaitable[T]) -> T:
    """Await something that must happen. Raises TimeoutError after LONGEST_WAIT."""
    return await asyncio.wait_for(awaitable, LONGEST_WAIT)
