"""Operation types of the stored data.

The version that stores the data and the version that opens it both load this module. So it uses public names of
`tracker` only. The handler of an operation waits until there is a file `<id>.go` or `all.go` in TEST_HANDLERS_DIR.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

RESULT: Any = {"readOnly": True}
LOOK_EVERY = 0.02


class Reverse(Operation, type="#stored.reverse"):
    """A coroutine reverses a text."""

    text: str = ""
    reversed: str | None = Field(None, json_schema_extra=RESULT)


class ReverseInFunction(Reverse, type="#stored.reverseInFunction"):
    """A plain function reverses a text."""


class ReverseHigh(Reverse, type="#stored.reverseHigh"):
    """A plain function of high priority reverses a text."""


class ReverseLow(Reverse, type="#stored.reverseLow"):
    """A plain function of low priority reverses a text."""


class End(Operation, type="#stored.end"):
    """A coroutine ends in the way that `how` names."""

    how: str


class Short(Operation, type="#stored.short"):
    """A coroutine takes longer than `run_within`."""


class Wait(Operation, type="#stored.wait"):
    """A coroutine waits until it is released. `then` says how it ends."""

    then: str = ""
    answer: str | None = Field(None, json_schema_extra=RESULT)


class WaitFunction(Wait, type="#stored.waitFunction"):
    """A plain function waits."""


class WaitLast(Wait, type="#stored.waitLast"):
    """A coroutine waits, and has one attempt."""


class IgnoreCancel(Wait, type="#stored.ignoreCancel"):
    """A coroutine waits. A cancel does not end it."""


class Serial(Wait, type="#stored.serial"):
    """A coroutine waits. The operations of a call run one at a time."""


class Capped(Wait, type="#stored.capped"):
    """A coroutine waits. The operations of this type run one at a time."""


class Rated(Reverse, type="#stored.rated"):
    """One operation of this type starts in a day."""


class RatedSoon(Reverse, type="#stored.ratedSoon"):
    """One operation of this type starts in a day. It fails when it does not start within a second."""


class RatedLater(Reverse, type="#stored.ratedLater"):
    """One operation of this type starts in a day. It fails when it does not start within two hours."""


def is_released(context: Context) -> bool:
    directory = Path(os.environ["TEST_HANDLERS_DIR"])
    return (directory / f"{context.operation_id}.go").exists() or (directory / "all.go").exists()


async def release(context: Context) -> None:
    while not is_released(context):  # noqa: ASYNC110 - another process writes the file
        await asyncio.sleep(LOOK_EVERY)


def reverse(operation: Reverse) -> ResultInfo:
    operation.reversed = operation.text[::-1]
    return ResultInfo(code=200, subcode=3, message="reversed")


def end(operation: Wait, context: Context) -> None:
    operation.answer = f"of attempt {context.attempt}"
    if operation.then == "reject":
        raise Rejected("not like this", 9)
    if operation.then == "retry" and context.attempt == 1:
        raise Retry("once more", after="2h")


@handles(Reverse)
async def reverse_in_coroutine(operation: Reverse, context: Context) -> ResultInfo:
    await context.progress(40, "half way")
    return reverse(operation)


@handles(ReverseInFunction)
def reverse_in_function(operation: ReverseInFunction, context: Context) -> ResultInfo:
    context.progress(40, "half way")
    return reverse(operation)


@handles(ReverseHigh, priority="high")
def reverse_high(operation: ReverseHigh, _context: Context) -> ResultInfo:
    return reverse(operation)


@handles(ReverseLow, priority="low")
def reverse_low(operation: ReverseLow, _context: Context) -> ResultInfo:
    return reverse(operation)


@handles(End, backoff=("10ms", "10ms"))
async def end_at_once(operation: End, context: Context) -> None:
    if operation.how == "rejected":
        raise Rejected("not like this", 7)
    if operation.how == "raised" or (operation.how == "raised once" and context.attempt == 1):
        raise ValueError("a secret")
    if operation.how == "tomorrow" and context.attempt == 1:
        raise Retry("the other side is closed", after="2h")


@handles(Short, run_within="200ms", attempts=1)
async def short(_operation: Short, _context: Context) -> None:
    await asyncio.sleep(60)


@handles(Wait)
async def wait(operation: Wait, context: Context) -> None:
    await context.progress(30 + context.attempt, "waits")
    await release(context)
    end(operation, context)


@handles(WaitFunction)
def wait_function(operation: WaitFunction, context: Context) -> None:
    context.progress(detail="waits in a function")
    while not is_released(context):
        time.sleep(LOOK_EVERY)
    end(operation, context)


@handles(WaitLast, attempts=1)
async def wait_last(operation: WaitLast, context: Context) -> None:
    await context.progress(70)
    await release(context)
    end(operation, context)


@handles(IgnoreCancel, grace="1h")
async def ignore_cancel(operation: IgnoreCancel, context: Context) -> None:
    await context.progress(10, "begun")
    while not is_released(context):
        try:
            await release(context)
        except asyncio.CancelledError:
            await context.progress(20, "asked to stop")
    end(operation, context)


@handles(Serial, per_call="serial")
async def serial(operation: Serial, context: Context) -> None:
    await release(context)
    end(operation, context)


@handles(Capped, concurrency=1)
async def capped(operation: Capped, context: Context) -> None:
    await release(context)
    end(operation, context)


@handles(Rated, rate="1/1d")
async def rated(operation: Rated, _context: Context) -> ResultInfo:
    return reverse(operation)


@handles(RatedSoon, rate="1/1d", start_within="1s")
async def rated_soon(operation: RatedSoon, _context: Context) -> ResultInfo:
    return reverse(operation)


@handles(RatedLater, rate="1/1d", start_within="2h")
async def rated_later(operation: RatedLater, _context: Context) -> ResultInfo:
    return reverse(operation)
