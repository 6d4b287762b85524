"""Operation types for tests of hosts. Their members control the handlers; the handlers report by progress."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field

from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

_gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
_met: defaultdict[str, int] = defaultdict(int)
RESULT: Any = {"readOnly": True}


class Echo(Operation, type="#hosts.echo"):
    text: str = ""
    echo: str | None = Field(None, json_schema_extra=RESULT)


class EchoFunction(Echo, type="#hosts.echoFunction"):
    pass


class Nothing(Operation, type="#hosts.nothing"):
    pass


class NothingFunction(Operation, type="#hosts.nothingFunction"):
    pass


class Ending(Operation, type="#hosts.ending"):
    how: str


class EndingFunction(Ending, type="#hosts.endingFunction"):
    pass


class Waiting(Operation, type="#hosts.waiting"):
    gate: str = ""
    stubborn: bool = False


class Opening(Operation, type="#hosts.opening"):
    gate: str


class Meeting(Operation, type="#hosts.meeting"):
    number: int


class Blocking(Operation, type="#hosts.blocking"):
    seconds: float


class Leaving(Operation, type="#hosts.leaving"):
    gate: str


class Threading(Operation, type="#hosts.threading"):
    pass


class Sleeping(Operation, type="#hosts.sleeping"):
    stubborn: bool = False


class Chatty(Operation, type="#hosts.chatty"):
    pass


class Spawning(Operation, type="#hosts.spawning"):
    wait: bool


class Forking(Operation, type="#hosts.forking"):
    pass


class Interrupting(Operation, type="#hosts.interrupting"):
    pass


class Exiting(Operation, type="#hosts.exiting"):
    how: str
    awaited: bool = False


class Reading(Operation, type="#hosts.reading"):
    pass


class ReadingFunction(Operation, type="#hosts.readingFunction"):
    pass


class Tampering(Operation, type="#hosts.tampering"):
    pass


class Looking(Operation, type="#hosts.looking"):
    pass


class Eating(Operation, type="#hosts.eating"):
    mib: int


@handles(Echo)
async def echo(operation: Echo, context: Context) -> None:
    await context.progress(40, "begun")
    operation.echo = operation.text


@handles(EchoFunction)
def echo_function(operation: EchoFunction, context: Context) -> ResultInfo:
    context.progress(40, "begun")
    operation.echo = operation.text
    return ResultInfo(code=200, subcode=context.attempt, message=context.idempotency_key)


@handles(Nothing)
async def nothing(_operation: Nothing, _context: Context) -> None:
    pass


@handles(NothingFunction)
def nothing_function(_operation: NothingFunction, _context: Context) -> None:
    pass


def _end(how: str, context: Context) -> Any:  # noqa: C901 - a table of endings
    """End in the way that `how` names. The strange ones are mistakes that handlers really make."""
    match how:
        case "rejected":
            raise Rejected("not like this", 7)
        case "retry":
            raise Retry("later", after=2)
        case "retry with an error for its message":
            raise Retry(ValueError("why"))  # type: ignore[arg-type]
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "nonsense":
            return "done"
        case "bytes as message":
            return ResultInfo.model_construct(code=200, subcode=0, message=b"bytes")  # type: ignore[arg-type]
        case "bytes as detail":
            context.progress(1, b"half")  # type: ignore[arg-type]
        case "half a surrogate pair":
            context.progress(detail="caf\udce9")
        case "print":
            print("printed by a handler")
        case "kill":
            context.progress(90, "last words")
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            raise {"value": ValueError, "file": FileNotFoundError, "timeout": TimeoutError}[how]("a secret")
    return None


@handles(Ending, retry_on=[OSError], never_retry=[FileNotFoundError])
async def ending(operation: Ending, context: Context) -> Any:
    return _end(operation.how, context)


@handles(EndingFunction)
def ending_function(operation: EndingFunction, context: Context) -> Any:
    return _end(operation.how, context)


@handles(Waiting)
async def waiting(operation: Waiting, context: Context) -> None:
    """Waits until an Opening opens its gate. A stubborn one waits on when it is asked to stop."""
    await context.progress(detail="begun")
    while True:
        try:
            await _gates[operation.gate].wait()
        except asyncio.CancelledError:
            await context.progress(detail=f"asked {context.cancel_requested}")
            if not operation.stubborn:
                raise
        else:
            return


@handles(Opening)
async def opening(operation: Opening, _context: Context) -> None:
    _gates[operation.gate].set()


@handles(Meeting)
async def meeting(operation: Meeting, _context: Context) -> None:
    """Ends when `number` attempts run at once."""
    _met["all"] += 1
    if _met["all"] == operation.number:
        _gates["all met"].set()
    await _gates["all met"].wait()


@handles(Blocking)
async def blocking(operation: Blocking, _context: Context) -> None:
    time.sleep(operation.seconds)  # noqa: ASYNC251 - what must not be done


@handles(Leaving)
async def leaving(operation: Leaving, context: Context) -> None:
    """Leaves a task that reports progress after the attempt's end."""

    async def late() -> None:
        await _gates[operation.gate].wait()
        await context.progress(99, "too late")
        _gates["reported"].set()

    _gates["left behind"].task = asyncio.create_task(late())  # type: ignore[attr-defined]


@handles(Threading)
async def threading(_operation: Threading, context: Context) -> None:
    await asyncio.to_thread(context.progress, 70, "from a thread")


@handles(Sleeping)
def sleeping(operation: Sleeping, context: Context) -> None:
    try:
        context.progress(detail="begun")
        time.sleep(3600)
    except BaseException:
        context.progress(detail=f"asked {context.cancel_requested}")
        if not operation.stubborn:
            raise


@handles(Chatty)
def chatty(_operation: Chatty, context: Context) -> None:
    """Reports progress without end, faster than the worker reads it."""
    while True:
        context.progress(detail="x" * 256)


@handles(Spawning)
def spawning(operation: Spawning, context: Context) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    context.progress(detail=str(process.pid))
    if operation.wait:
        process.wait()


@handles(Forking)
def forking(_operation: Forking, _context: Context) -> None:
    """Forks a child that raises SystemExit. That must end the child, which must not become a second host."""
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)


@handles(Interrupting)
def interrupting(_operation: Interrupting, context: Context) -> None:
    """Interrupts a process that it started, for example a recording."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(3600)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    try:
        context.progress(detail=f"ended {process.wait(5) != 0}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@handles(Exiting)
async def exiting(operation: Exiting, context: Context) -> None:
    """Starts a task that raises SystemExit or KeyboardInterrupt, and waits: for the task, or for ever."""
    await context.progress(detail="begun")

    async def exit_soon() -> None:
        await asyncio.sleep(0)
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[operation.how]

    task = asyncio.create_task(exit_soon())
    await (task if operation.awaited else asyncio.Event().wait())


def _standard_input() -> str:
    """What this process and a child of it read from standard input, and whether this process leads its session."""
    child = subprocess.run(["cat"], stdout=subprocess.PIPE, check=True)
    return f"{sys.stdin.read()!r} {child.stdout!r} {os.getsid(0) == os.getpid()}"


@handles(Reading)
async def reading(_operation: Reading, context: Context) -> None:
    await context.progress(detail=_standard_input())


@handles(ReadingFunction)
def reading_function(_operation: ReadingFunction, context: Context) -> None:
    context.progress(detail=_standard_input())


_VARIABLE = "HOSTS_SECRET"
_TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@handles(Tampering)
def tampering(_operation: Tampering, _context: Context) -> None:
    """Changes every state of the process that it can, and restores nothing."""
    _TENANT.set("somebody")
    signal.alarm(3600)
    signal.setitimer(signal.ITIMER_PROF, 3600)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM})
    signal.raise_signal(signal.SIGUSR2)  # would end the process as soon as it is not blocked
    os.chdir("/")
    os.umask(0o777)
    os.environ[_VARIABLE] = "a secret"
    os.environ.pop("PATH", None)
    socket.setdefaulttimeout(0.001)
    random.seed(1)


@handles(Looking)
def looking(_operation: Looking, context: Context) -> None:
    """Reports the state of the process."""
    umask = os.umask(0)
    os.umask(umask)
    state = {
        "tenant": _TENANT.get(),
        "timers": [signal.getitimer(timer)[0] for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
        "handlers": [str(signal.getsignal(each)).split(" at ")[0] for each in (signal.SIGHUP, signal.SIGUSR1)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "directory": str(Path.cwd()),
        "umask": umask,
        "environment": [os.environ.get(_VARIABLE), os.environ.get("PATH")],
        "timeout": socket.getdefaulttimeout(),
    }
    for name, value in state.items():
        context.progress(detail=f"{name} {value}")
    context.progress(detail=f"random {random.random() == Random(1).random()}")


@handles(Eating)
def eating(operation: Eating, _context: Context) -> None:
    bytearray(operation.mib * 1024 * 1024)
