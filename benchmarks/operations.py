"""The operation types of the benchmark: TRACKER_TYPES=benchmarks.operations."""

import asyncio
import time

from pydantic import Field

from benchmarks.peers.system import SLEEP
from tracker import Context, Operation, handles


class Numbered(Operation, type="#bench.numbered"):
    """Answers the number that it was given, as every task of the benchmark does."""

    number: int = 0
    answer: int | None = Field(None, json_schema_extra={"readOnly": True})


class Noop(Numbered, type="#bench.noop"):
    """Does nothing, in a coroutine."""


class Sleep(Numbered, type="#bench.sleep"):
    """Waits, in a coroutine."""


class NoopFunction(Numbered, type="#bench.noopFunction"):
    """Does nothing, in a plain function."""


class SleepFunction(Numbered, type="#bench.sleepFunction"):
    """Waits, in a plain function."""


class Hold(Operation, type="#bench.hold"):
    """Waits until it is stopped."""


@handles(Noop)
async def noop(operation: Noop, _: Context) -> None:
    """Do nothing."""
    operation.answer = operation.number


@handles(Sleep)
async def sleep(operation: Sleep, _: Context) -> None:
    """Wait."""
    await asyncio.sleep(SLEEP)
    operation.answer = operation.number


@handles(NoopFunction)
def noop_function(operation: NoopFunction, _: Context) -> None:
    """Do nothing."""
    operation.answer = operation.number


@handles(SleepFunction)
def sleep_function(operation: SleepFunction, _: Context) -> None:
    """Wait."""
    time.sleep(SLEEP)
    operation.answer = operation.number


@handles(Hold)
async def hold(_: Hold, __: Context) -> None:
    """Wait."""
    await asyncio.Event().wait()
