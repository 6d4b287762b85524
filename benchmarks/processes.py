"""Processes that a benchmark starts: their life, their processor time and their memory. Linux only, by /proc."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tracker.runtime.processes import die_with_parent

ROOT = Path(__file__).parents[1]
"""The checkout that this code is in."""
PROC = Path("/proc")
END_WITHIN = 15.0
"""The longest time in seconds from SIGTERM to SIGKILL."""
LONGEST_LINE = 2**24
"""The longest line in bytes that is read from a process. asyncio's own limit of 64 KiB is less than some answers."""
_TICK = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Memory of one process in bytes: all that is resident, and its proportional share of what several use."""

    rss: int
    pss: int


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on. The list is empty when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """The process and all its descendants, each after its parent."""
    parents = {int(path.name): fields[1] for path in PROC.glob("[0-9]*") if (fields := stat(int(path.name)))}
    found = [root] if root in parents else []
    for parent in found:
        found += [pid for pid, of in parents.items() if of == str(parent)]
    return found


def signal_tree(root: int, signum: signal.Signals) -> None:
    """Signal the process and its descendants, until no new descendant is found."""
    reached: set[int] = set()
    while new := set(tree(root)) - reached:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
        reached |= new


def cpu_seconds(root: int) -> float:
    """Processor seconds of the process, its descendants, and their children that have ended.

    The time of children that have ended is known in ticks of 10 ms only.
    """
    return cpu_time(root) + sum(sum(map(int, stat(pid)[13:15])) for pid in tree(root)) / _TICK


def cpu_time(root: int) -> float:
    """Processor seconds of the process and its living descendants, in nanosecond steps.

    clock_getcpuclockid(3) derives the number of a process's clock from its pid by the same formula.
    """
    total = 0.0
    for pid in tree(root):
        with suppress(OSError):
            total += time.clock_gettime(~pid << 3 | 2)
    return total


def memory(pid: int) -> Memory:
    """The memory of the process now."""
    rollup = dict(
        line.split(":", 1) for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines() if ":" in line
    )
    return Memory(*(int(rollup[name].split()[0]) * 1024 for name in ("Rss", "Pss")))


@asynccontextmanager
async def running(
    *argv: str, env: Mapping[str, str], pipes: bool = False, cwd: Path = ROOT
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process while the body runs. At the end the process and all its descendants are ended.

    With `pipes`, standard input and output are pipes. `cwd` is the checkout that `python -m` imports from.
    """
    pipe = asyncio.subprocess.PIPE if pipes else None
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env={**os.environ, **env},
        stdin=pipe or asyncio.subprocess.DEVNULL,
        stdout=pipe or sys.stderr,
        limit=LONGEST_LINE,
        preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
    )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Send SIGTERM to the process, and SIGKILL to what is left of its tree after `END_WITHIN`."""
    family = {pid: stat(pid)[19] for pid in tree(process.pid)}
    signal_tree(process.pid, signal.SIGCONT)
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), END_WITHIN)
    for pid in survivors(family):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await process.wait()


def survivors(family: Mapping[int, str]) -> Iterator[int]:
    """The processes that still live. `family` maps each pid to its start time, because a pid may be used again."""
    for pid, born in family.items():
        fields = stat(pid)
        if fields and fields[0] != "Z" and fields[19] == born:
            yield pid


def pin(pid: int, core: int) -> None:
    """Let the process run on one core only, with all its threads and with what it starts later."""
    for thread in (PROC / str(pid) / "task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})
