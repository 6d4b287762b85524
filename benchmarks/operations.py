"""Operation types of the benchmarks. The setting TRACKER_TYPES=benchmarks.operations loads this module."""

import asyncio
import time

from pydantic import Field

from benchmarks.peers.system import SLEEP
from tracker import Context, Operation, handles


class Numbered(Operation, type="#bench.numbered"):
    """Base of the types that answer their number. Every task of the benchmarks does that, so results can be checked."""

    number: int = 0
    answer: int | None = Field(None, json_schema_extra={"readOnly": True})


class Noop(Numbered, type="#bench.noop"):
    """Does nothing, in a coroutine."""


class Sleep(Numbered, type="#bench.sleep"):
    """Sleeps, in a coroutine."""


class NoopFunction(Numbered, type="#bench.noopFunction"):
    """Does nothing, in a plain function."""


class SleepFunction(Numbered, type="#bench.sleepFunction"):
    """Sleeps, in a plain function."""


class Hold(Operation, type="#bench.hold"):
    """Waits until its worker stops."""


@handles(Noop)
async def noop(operation: Noop, _: Context) -> None:
    """Answer."""
    operation.answer = operation.number


@handles(Sleep)
async def sleep(operation: Sleep, _: Context) -> None:
    """Sleep, then answer."""
    await asyncio.sleep(SLEEP)
    operation.answer = operation.number


@handles(NoopFunction)
def noop_function(operation: NoopFunction, _: Context) -> None:
    """Answer."""
    operation.answer = operation.number


@handles(SleepFunction)
def sleep_function(operation: SleepFunction, _: Context) -> None:
    """Sleep, then answer."""
    time.sleep(SLEEP)
    operation.answer = operation.number


@handles(Hold)
async def hold(_: Hold, __: Context) -> None:
    """Wait for an event that never comes."""
    await asyncio.Event().wait()
