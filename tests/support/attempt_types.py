"""Operation types for every end of an attempt; some handlers report what they do in files of TEST_HANDLERS_DIR."""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

AN_HOUR = 3600
"""Seconds that no test lasts."""


def report(name: str, text: str = "") -> None:
    (Path(os.environ["TEST_HANDLERS_DIR"]) / name).write_text(f"{text}\n")


class Plain(Operation, type="#test.plain"):
    text: str = ""
    backwards: str | None = Field(None, json_schema_extra={"readOnly": True})


class Coroutine(Operation, type="#test.coroutine"):
    text: str
    backwards: str | None = Field(None, json_schema_extra={"readOnly": True})


class Rejecting(Operation, type="#test.rejecting"):
    pass


class Raising(Operation, type="#test.raising"):
    pass


class Retrying(Operation, type="#test.retrying"):
    pass


class Dying(Operation, type="#test.dying"):
    pass


class Nonsense(Operation, type="#test.nonsense"):
    pass


class Oversized(Operation, type="#test.oversized"):
    much: str | None = Field(None, json_schema_extra={"readOnly": True})


class Sleeping(Operation, type="#test.sleeping"):
    pass


class Blocking(Operation, type="#test.blocking"):
    pass


class Deaf(Operation, type="#test.deaf"):
    pass


class Once(Operation, type="#test.once"):
    pass


@handles(Plain)
def plain(operation: Plain, context: Context) -> None:
    context.progress(50, "half")
    operation.backwards = operation.text[::-1]


@handles(Coroutine)
async def coroutine(operation: Coroutine, context: Context) -> ResultInfo:
    await context.progress(10, "begun")
    operation.backwards = operation.text[::-1]
    return ResultInfo(code=200, subcode=3, message="turned")


@handles(Rejecting)
def rejecting(_operation: Rejecting, _context: Context) -> None:
    raise Rejected("not like this", 7)


@handles(Raising)
async def raising(_operation: Raising, _context: Context) -> None:
    raise ValueError("a secret")


@handles(Retrying)
async def retrying(_operation: Retrying, _context: Context) -> None:
    raise Retry(after="10ms")


@handles(Dying)
def dying(_operation: Dying, _context: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@handles(Nonsense)
def nonsense(_operation: Nonsense, _context: Context) -> Any:
    return "done"


@handles(Oversized)
def oversized(operation: Oversized, _context: Context) -> None:
    operation.much = "x" * 70_000


@handles(Sleeping)
async def sleeping(_operation: Sleeping, _context: Context) -> None:
    report("started")
    try:
        await asyncio.sleep(AN_HOUR)
    finally:
        report("stopped")


@handles(Blocking)
def blocking(_operation: Blocking, _context: Context) -> None:
    report("started")
    try:
        time.sleep(AN_HOUR)
    finally:
        report("stopped")


@handles(Deaf)
async def deaf(_operation: Deaf, _context: Context) -> None:
    """Sleeps in C and holds the interpreter lock: no thread of the process runs."""
    report("started")
    ctypes.PyDLL(None).sleep(AN_HOUR)


@handles(Once)
async def once(_operation: Once, context: Context) -> None:
    """Ends at the second attempt. The first one reports the pid of its host and does not end."""
    if context.attempt == 1:
        report("started", str(os.getpid()))
        await asyncio.sleep(AN_HOUR)


class Recorded(Operation, type="#test.recorded"):
    seconds: float = 0.1


@handles(Recorded, attempts=9)
async def recorded(operation: Recorded, context: Context) -> None:
    """Runs for `seconds`, and adds a line to the file `ends` at the end of each attempt."""
    await asyncio.sleep(operation.seconds)
    with (Path(os.environ["TEST_HANDLERS_DIR"]) / "ends").open("a") as log:
        log.write(f"{context.operation_id} {context.attempt}\n")
