"""The operation types of the load. Their handlers note in a journal when each attempt starts and how it ends."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from chaos.journal import EFFECTS, Journal
from chaos.kinds import KINDS, SPARE
from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

STUMBLES = 2
"""Attempts that a stumbling operation fails before it succeeds."""
STEP = 0.3
"""Seconds between two progress reports."""
BACKOFF = ("100ms", "1s")


class Quick(Operation, type="#chaos.quick"):
    """Over in a moment; in the high lane."""

    seconds: float = 0.0


class Slow(Operation, type="#chaos.slow"):
    """Takes seconds, and reports progress."""

    seconds: float = 1.0


class Long(Operation, type="#chaos.long"):
    """Long enough to meet several faults."""

    seconds: float = 20.0


class Function(Operation, type="#chaos.function"):
    """A plain function that waits in the system."""

    seconds: float = 0.0


class Cpu(Operation, type="#chaos.cpu"):
    """A plain function that keeps a core busy; in the low lane."""

    seconds: float = 0.1


class Stumbling(Operation, type="#chaos.stumbling"):
    """Fails at first."""


class Failing(Operation, type="#chaos.failing"):
    """Always fails."""


class Refused(Operation, type="#chaos.rejected"):
    """Is always rejected."""


class Late(Operation, type="#chaos.late"):
    """Never ends within its limit."""

    seconds: float = 60.0


class Serial(Operation, type="#chaos.serial"):
    """Runs one at a time within its call."""

    seconds: float = 0.1


class Capped(Operation, type="#chaos.capped"):
    """Runs a few at a time over all calls."""

    seconds: float = 0.1


class Rated(Operation, type="#chaos.rated"):
    """Starts a few times a second; in the low lane."""

    seconds: float = 0.0


@cache
def effects() -> Journal:
    """The journal of this run; whoever starts the worker says where it is."""
    return Journal(Path(os.environ["CHAOS_DIR"]) / EFFECTS)


@contextmanager
def told(context: Context) -> Iterator[ResultInfo]:
    """Note the attempt's start and end; yields the result that names it. Being stopped is an end like another."""
    about = {
        "id": context.operation_id,
        "attempt": context.attempt,
        "worker": os.environ["CHAOS_PROCESS"],
        "pid": os.getpid(),
    }
    effects().write(event="start", t=time.monotonic(), **about)
    how = "stopped"
    try:
        yield ResultInfo(code=200, subcode=0, message=f"attempt {context.attempt}")
        how = "succeeded"
    except Rejected:
        how = "rejected"
        raise
    except Exception:
        how = "failed"
        raise
    finally:
        effects().write(event="end", t=time.monotonic(), how=how, **about)


@handles(Quick, attempts=SPARE, backoff=BACKOFF, priority="high")
@handles(Slow, attempts=SPARE, backoff=BACKOFF)
@handles(Long, attempts=SPARE, backoff=BACKOFF)
@handles(Late, attempts=KINDS["#chaos.late"].attempts, backoff=BACKOFF, run_within="1s")
@handles(Serial, attempts=SPARE, backoff=BACKOFF, per_call="serial")
@handles(Capped, attempts=SPARE, backoff=BACKOFF, concurrency=KINDS["#chaos.capped"].cap)
@handles(Rated, attempts=SPARE, backoff=BACKOFF, rate="5/s", priority="low")
async def sleeping(operation: Quick | Slow | Long | Late | Serial | Capped | Rated, context: Context) -> ResultInfo:
    """Take a while, and tell of it."""
    with told(context) as mine:
        steps = max(1, round(operation.seconds / STEP))
        for step in range(steps):
            await asyncio.sleep(operation.seconds / steps)
            await context.progress(100 * (step + 1) / steps)
        return mine


@handles(Function, attempts=SPARE, backoff=BACKOFF)
def blocking(operation: Function, context: Context) -> ResultInfo:
    """Take a while in a system call."""
    with told(context) as mine:
        time.sleep(operation.seconds)
        return mine


@handles(Cpu, attempts=SPARE, backoff=BACKOFF, priority="low")
def counting(operation: Cpu, context: Context) -> ResultInfo:
    """Take a while with the interpreter busy."""
    with told(context) as mine:
        end = time.monotonic() + operation.seconds
        while time.monotonic() < end:
            context.progress(None, f"{sum(range(10_000))}")
        return mine


@handles(Stumbling, attempts=SPARE, backoff=BACKOFF)
async def stumbling(_operation: Stumbling, context: Context) -> ResultInfo:
    """Fail a few times, in two ways."""
    with told(context) as mine:
        if context.attempt == 1:
            raise RuntimeError("the first attempt fails")
        if context.attempt <= STUMBLES:
            raise Retry(after="200ms")
        return mine


@handles(Failing, attempts=KINDS["#chaos.failing"].attempts, backoff=BACKOFF)
async def failing(_operation: Failing, context: Context) -> None:
    """Never succeed."""
    with told(context):
        raise RuntimeError("every attempt fails")


@handles(Refused, attempts=SPARE, backoff=BACKOFF)
def rejecting(_operation: Refused, context: Context) -> None:
    """Accept no input."""
    with told(context) as mine:
        raise Rejected(mine.message)
