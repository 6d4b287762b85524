"""Operation types of the load. Their handlers write the start and the end of each attempt into a journal."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from chaos.history import POISON
from chaos.hostile import FLOOD_TYPE
from chaos.journal import EFFECTS, EVENTS, Journal
from chaos.kinds import KINDS, SPARE
from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

STUMBLES = 2
"""How many attempts of a stumbling operation fail before one succeeds."""
STEP = 0.3
"""Seconds between two progress reports."""
BACKOFF = ("100ms", "1s")
"""Shortest and longest wait between two attempts."""


class Quick(Operation, type="#chaos.quick"):
    """Ends at once. Its queue has high priority."""

    seconds: float = 0.0


class Slow(Operation, type="#chaos.slow"):
    """Takes some seconds and reports progress."""

    seconds: float = 1.0


class Long(Operation, type="#chaos.long"):
    """Takes so long that several faults come during an attempt."""

    seconds: float = 10.0


class Function(Operation, type="#chaos.function"):
    """Runs a plain function that sleeps in a system call."""

    seconds: float = 0.0


class Cpu(Operation, type="#chaos.cpu"):
    """Runs a plain function that keeps a core busy. Its queue has low priority."""

    seconds: float = 0.1


class Stumbling(Operation, type="#chaos.stumbling"):
    """Fails in its first attempts."""


class Failing(Operation, type="#chaos.failing"):
    """Fails in every attempt."""


class Refused(Operation, type="#chaos.rejected"):
    """Is rejected by its handler."""


class Late(Operation, type="#chaos.late"):
    """Takes longer than its time limit."""

    seconds: float = 60.0


class Serial(Operation, type="#chaos.serial"):
    """Runs one at a time within its call."""

    seconds: float = 0.1


class Capped(Operation, type="#chaos.capped"):
    """Runs a few at a time, counted over all calls."""

    seconds: float = 0.1


class Poison(Operation, type="#chaos.poison"):
    """Ends the process in which it runs, in every attempt."""


class Rated(Operation, type="#chaos.rated"):
    """Starts a few times a second. Its queue has low priority."""

    seconds: float = 0.0


class Flood(Operation, type=FLOOD_TYPE):
    """Belongs to a tenant that floods the queue."""

    seconds: float = 1.0


@cache
def effects() -> Journal:
    """The handlers' journal, in the directory that CHAOS_DIR names."""
    return Journal(Path(os.environ["CHAOS_DIR"]) / EFFECTS)


@contextmanager
def journaled(context: Context) -> Iterator[ResultInfo]:
    """Note the attempt's start and end, and yield a result that names the attempt.

    A handler that is stopped ends too: its `how` is `stopped`.
    """
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
    """Sleep for the operation's length and report progress."""
    with journaled(context) as result:
        steps = max(1, round(operation.seconds / STEP))
        for step in range(steps):
            await asyncio.sleep(operation.seconds / steps)
            await context.progress(100 * (step + 1) / steps)
        return result


@handles(Flood, attempts=SPARE, backoff=BACKOFF)
async def flooding(operation: Flood, _context: Context) -> None:
    """Sleep for the operation's length. Nothing is journaled, because the rules are not about this tenant."""
    await asyncio.sleep(operation.seconds)


@handles(Function, attempts=SPARE, backoff=BACKOFF)
def blocking(operation: Function, context: Context) -> ResultInfo:
    """Sleep in a system call."""
    with journaled(context) as result:
        time.sleep(operation.seconds)
        return result


@handles(Cpu, attempts=SPARE, backoff=BACKOFF, priority="low")
def counting(operation: Cpu, context: Context) -> ResultInfo:
    """Keep the interpreter busy for the operation's length."""
    with journaled(context) as result:
        end = time.monotonic() + operation.seconds
        while time.monotonic() < end:
            context.progress(None, f"{sum(range(10_000))}")
        return result


@handles(Stumbling, attempts=SPARE, backoff=BACKOFF)
async def stumbling(_operation: Stumbling, context: Context) -> ResultInfo:
    """Raise an error, then ask for a retry, then succeed."""
    with journaled(context) as result:
        if context.attempt == 1:
            raise RuntimeError("the first attempt fails")
        if context.attempt <= STUMBLES:
            raise Retry(after="200ms")
        return result


@handles(Poison, attempts=KINDS["#chaos.poison"].attempts, backoff=BACKOFF)
async def ending(_operation: Poison, context: Context) -> None:
    """End the process: by a signal of the kernel for wrong memory or for lack of memory, or by an exit."""
    with journaled(context):
        await asyncio.sleep(STEP)
        events = Journal(Path(os.environ["CHAOS_DIR"]) / EVENTS)
        pid, worker = os.getpid(), os.environ["CHAOS_PROCESS"]
        events.write(event="fault", kind=POISON, target=worker, pid=pid, t=time.monotonic())
        if context.attempt % 2:
            os._exit(3)
        os.kill(pid, random.choice((signal.SIGSEGV, signal.SIGKILL)))


@handles(Failing, attempts=KINDS["#chaos.failing"].attempts, backoff=BACKOFF)
async def failing(_operation: Failing, context: Context) -> None:
    """Raise an error in every attempt."""
    with journaled(context):
        raise RuntimeError("every attempt fails")


@handles(Refused, attempts=SPARE, backoff=BACKOFF)
def rejecting(_operation: Refused, context: Context) -> None:
    """Reject the input."""
    with journaled(context) as result:
        raise Rejected(result.message)
