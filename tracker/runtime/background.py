"""Background tasks that end with the block they belong to, and the event loop they run on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

CANCEL_AGAIN_AFTER = 0.02
"""Seconds after which a task that has not ended is cancelled again."""


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines in the background while the body of the `with` runs. Then they are cancelled and awaited."""
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_log_death)
    try:
        yield
    finally:
        await end(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_death(task: asyncio.Task[None]) -> None:
    """Log the error of a task that died before the body was left."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_task_died", task=task.get_name(), exc_info=error)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop of its own. Returns its result."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, which becomes the current loop of this thread."""
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed, otherwise asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks again and again until they have ended.

    Before Python 3.12 `asyncio.wait_for`, which redis-py uses, can lose a cancellation that arrives together with a
    result (python/cpython#86296). A task that is cancelled only once could then go on for ever.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER)
