"""Types whose module has hooks. Each hook writes a line to the file `hooks` of TEST_HANDLERS_DIR."""

import asyncio
import atexit
import os
import threading
import time
from pathlib import Path

from tracker import Context, Operation, handles, on_start, on_stop

STATE: dict[str, object] = {}


def exists(name: str) -> bool:
    return (Path(os.environ["TEST_HANDLERS_DIR"]) / name).exists()


def note(word: str) -> None:
    with (Path(os.environ["TEST_HANDLERS_DIR"]) / "hooks").open("a") as lines:
        lines.write(f"{os.getpid()} {word}\n")


@on_start
def start_first() -> None:
    note("start 1")
    while exists("waits"):
        time.sleep(0.02)
    STATE["thread"] = thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    atexit.register(note, "exit")


@on_start
async def start_second() -> None:
    if exists("fails"):
        raise RuntimeError("no telemetry")
    await asyncio.sleep(0)
    note("start 2")


@on_stop
async def stop_second() -> None:
    while exists("hangs"):  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.02)
    note("stop 2")


@on_stop
def stop_first() -> None:
    note("stop 1")
    raise RuntimeError("a hook that fails keeps the others from nothing")


class Hooked(Operation, type="#hooked.coroutine"):
    pass


class HookedFunction(Operation, type="#hooked.function"):
    pass


@handles(Hooked)
async def hooked(_operation: Hooked, _context: Context) -> None:
    note("runs" if thread_is_alive() else "runs without its thread")


@handles(HookedFunction)
def hooked_function(_operation: HookedFunction, _context: Context) -> None:
    note("runs" if thread_is_alive() else "runs without its thread")


def thread_is_alive() -> bool:
    thread = STATE.get("thread")
    return isinstance(thread, threading.Thread) and thread.is_alive()
