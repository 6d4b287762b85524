"""Operation types whose handlers a test controls by files of TEST_HANDLERS_DIR.

A handler reports each step in a file `<id>.<step>`. It goes on when the file `<id>.go` or `all.go` exists.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

from pydantic import Field

from tracker import Context, Operation, ResultInfo, handles

LOOK_EVERY = 0.02


class Waits(Operation, type="#executor.waits"):
    """A coroutine that waits for its file."""

    answer: str | None = Field(None, json_schema_extra={"readOnly": True})


class Works(Operation, type="#executor.works"):
    """A plain function that waits for its file."""

    answer: str | None = Field(None, json_schema_extra={"readOnly": True})


class Insists(Operation, type="#executor.insists"):
    """A coroutine that succeeds when it is cancelled."""


class Clings(Operation, type="#executor.clings"):
    """A coroutine that goes on when it is cancelled."""


class Deaf(Operation, type="#executor.deaf"):
    """A plain function that blocks the signals by which it is asked to stop."""


class Blocks(Operation, type="#executor.blocks"):
    """A coroutine that blocks its event loop for `seconds`."""

    seconds: float


class Holds(Operation, type="#executor.holds"):
    """A coroutine that blocks its event loop until its file is there: in the handler, a task or a callback."""

    where: str = "handler"


class Ends(Operation, type="#executor.ends"):
    """A coroutine that waits for its file, and then ends a process: its host, or one above it."""

    how: str


class Bursts(Operation, type="#executor.bursts"):
    """A plain function that waits for its file, and then ends its process."""


class Grows(Operation, type="#executor.grows"):
    """A plain function that leaves `mebibytes` of memory allocated."""

    mebibytes: int


class Dies(Operation, type="#executor.dies"):
    """Ends its host's process."""


class Tidies(Operation, type="#executor.tidies"):
    """Cleans up when it is cancelled, until the test lets it end."""


class Strays(Operation, type="#executor.strays"):
    """Ends at once, and leaves a thread that never ends."""


def path(name: str) -> Path:
    return Path(os.environ["TEST_HANDLERS_DIR"]) / name


def report(context: Context, what: str, text: object = "") -> None:
    """Report a step. The file appears with its whole text."""
    unfinished = path(f"{context.operation_id}.{what}.unfinished")
    unfinished.write_text(str(text))
    unfinished.rename(path(f"{context.operation_id}.{what}"))


def may_go(context: Context) -> bool:
    return path(f"{context.operation_id}.go").exists() or path("all.go").exists()


async def wait(context: Context) -> None:
    while not may_go(context):  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(LOOK_EVERY)


def block(context: Context) -> None:
    while not may_go(context):
        time.sleep(LOOK_EVERY)


@handles(Waits)
async def waits(operation: Waits, context: Context) -> None:
    report(context, "began", os.getpid())
    try:
        await wait(context)
    except asyncio.CancelledError:
        report(context, "stopped", time.monotonic())
        raise
    operation.answer = f"of attempt {context.attempt}"
    report(context, f"ended.{context.attempt}")


@handles(Works)
def works(operation: Works, context: Context) -> None:
    report(context, "began", os.getpid())
    try:
        block(context)
    except BaseException as error:
        report(context, "stopped", type(error).__name__)
        raise
    operation.answer = f"of attempt {context.attempt}"
    report(context, f"ended.{context.attempt}")


@handles(Insists)
async def insists(_operation: Insists, context: Context) -> ResultInfo:
    report(context, "began", os.getpid())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return ResultInfo(code=200, subcode=4, message="done all the same")


@handles(Clings, attempts=1)
async def clings(_operation: Clings, context: Context) -> None:
    report(context, "began", os.getpid())
    while not may_go(context):
        try:
            await wait(context)
        except asyncio.CancelledError:
            report(context, "stopped")
    report(context, "let_go")


@handles(Deaf, attempts=1)
def deaf(_operation: Deaf, context: Context) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    report(context, "began", os.getpid())
    block(context)


@handles(Blocks)
async def blocks(operation: Blocks, context: Context) -> None:
    report(context, "began", os.getpid())
    time.sleep(operation.seconds)  # noqa: ASYNC251 - that is the point


@handles(Holds)
async def holds(operation: Holds, context: Context) -> None:
    report(context, "began", os.getpid())
    match operation.where:
        case "task":
            await asyncio.create_task(hold(context))
        case "callback":
            asyncio.get_running_loop().call_soon(block, context)
            await asyncio.Event().wait()
        case "left behind":
            asyncio.get_running_loop().call_later(0.3, block, context)
        case _:
            block(context)


async def hold(context: Context) -> None:
    block(context)


@handles(Ends, attempts=2, backoff=(0, 0))
async def ends(operation: Ends, context: Context) -> None:
    report(context, f"began.{context.attempt}", os.getpid())
    await wait(context)
    match operation.how:
        case "segfault":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "callback":
            asyncio.get_running_loop().call_soon(sys.exit, 4)
            await asyncio.Event().wait()
        case "fork server":
            os.kill(os.getppid(), signal.SIGKILL)
            await asyncio.Event().wait()
        case "out of memory":
            os.kill(os.getpid(), signal.SIGKILL)


@handles(Bursts, attempts=2, backoff=(0, 0))
def bursts(_operation: Bursts, context: Context) -> None:
    report(context, "began", os.getpid())
    block(context)
    os._exit(3)


HOARD: list[bytearray] = []


@handles(Grows)
def grows(operation: Grows, context: Context) -> None:
    HOARD.append(bytearray(b"x") * (operation.mebibytes * 1024 * 1024))
    report(context, "began", os.getpid())


@handles(Dies, attempts=1)
def dies(_operation: Dies, _context: Context) -> None:
    os._exit(3)


@handles(Tidies)
async def tidies(_operation: Tidies, context: Context) -> None:
    report(context, "began", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        report(context, "stopped")
        await wait(context)
        report(context, "tidied")


@handles(Strays)
async def strays(_operation: Strays, context: Context) -> None:
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    report(context, "began", os.getpid())
