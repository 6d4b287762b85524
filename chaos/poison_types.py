"""Operation types of the poison run: innocent ones, and ones that end or block the process in which they run."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from tracker import Context, Operation, handles

POISONED = "poison"
"""The second word of the names of types that do harm, as in `#poison.poisonCoroutine`."""


class Coroutine(Operation, type="#poison.coroutine"):
    """Sleeps on the event loop."""

    seconds: float


class Function(Operation, type="#poison.function"):
    """Sleeps in a plain function."""

    seconds: float


class Serial(Operation, type="#poison.serial"):
    """Runs one at a time within its call."""

    seconds: float


class Capped(Operation, type="#poison.capped"):
    """Runs a few at a time."""

    seconds: float


class PoisonCoroutine(Operation, type="#poison.poisonCoroutine"):
    """Does harm from a coroutine, in the way that `how` says."""

    how: str


class PoisonFunction(Operation, type="#poison.poisonFunction"):
    """Does harm from a plain function."""

    how: str


@handles(Coroutine)
@handles(Serial, per_call="serial")
@handles(Capped, concurrency=20)
async def sleeping(operation: Coroutine | Serial | Capped, _context: Context) -> None:
    """Sleep for the operation's length."""
    await asyncio.sleep(operation.seconds)


@handles(Function)
def blocking(operation: Function, _context: Context) -> None:
    """Sleep for the operation's length."""
    time.sleep(operation.seconds)


@handles(PoisonCoroutine, attempts=2, run_within="8s", grace="1s")
async def harming(operation: PoisonCoroutine, _context: Context) -> None:
    """Do harm after a short sleep, so that others are in the process by then."""
    await asyncio.sleep(0.2)
    if operation.how == "task":
        await asyncio.create_task(exits())
    harm(operation.how)


@handles(PoisonFunction, attempts=2, run_within="8s", grace="1s")
def harming_function(operation: PoisonFunction, _context: Context) -> None:
    """Do harm after a short sleep."""
    time.sleep(0.2)
    harm(operation.how)


async def exits() -> NoReturn:
    """Exit, as the code of a script does."""
    sys.exit(1)


def harm(how: str) -> None:
    """End this process or its worker, or block for longer than the operation may take."""
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "out of memory":
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
        case "worker":
            os.kill(_parent_of(os.getppid()), signal.SIGKILL)
            time.sleep(5)
        case "blocks":
            time.sleep(12)


def _parent_of(pid: int) -> int:
    """The parent of the fork server: the manager, or the work horse of one of RQ's own workers."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
