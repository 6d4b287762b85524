"""A worker with all its processes: stopped, continued, weighed and ended. Linux only, by /proc."""

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
PROC = Path("/proc")
END_WITHIN = 15.0
"""Seconds that a worker has to end after SIGTERM."""
_TICK = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Bytes of one process: what is resident, and its share when what is shared counts once."""

    rss: int
    pss: int


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; none when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """The process and all that descend from it, each after its parent."""
    parents = {int(path.name): fields[1] for path in PROC.glob("[0-9]*") if (fields := stat(int(path.name)))}
    found = [root] if root in parents else []
    for parent in found:
        found += [pid for pid, of in parents.items() if of == str(parent)]
    return found


def signal_tree(root: int, signum: signal.Signals) -> None:
    """Signal the process and its descendants, those too that are born meanwhile."""
    reached: set[int] = set()
    while new := set(tree(root)) - reached:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
        reached |= new


def cpu_seconds(root: int) -> float:
    """Processor time of the process, its descendants, and children of theirs that have ended."""
    return sum(sum(map(int, stat(pid)[11:15])) for pid in tree(root)) / _TICK


def cpu_time(root: int) -> float:
    """Processor seconds of the process and its living descendants, far finer than the ticks of `cpu_seconds`.

    A process's clock has the number that clock_getcpuclockid(3) makes of its pid.
    """
    total = 0.0
    for pid in tree(root):
        with suppress(OSError):
            total += time.clock_gettime(~pid << 3 | 2)
    return total


def memory(pid: int) -> Memory:
    """What the process takes now."""
    rollup = dict(
        line.split(":", 1) for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines() if ":" in line
    )
    return Memory(*(int(rollup[name].split()[0]) * 1024 for name in ("Rss", "Pss")))


@asynccontextmanager
async def running(*argv: str, env: Mapping[str, str], pipes: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, for as long as the body runs; then it and all its descendants are gone."""
    pipe = asyncio.subprocess.PIPE if pipes else None
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=pipe or asyncio.subprocess.DEVNULL,
        stdout=pipe or sys.stderr,
        preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
    )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to the process, and SIGKILL to whatever of its tree is left after `END_WITHIN`."""
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
    """Those that live on, by pid and time of birth."""
    for pid, born in family.items():
        fields = stat(pid)
        if fields and fields[0] != "Z" and fields[19] == born:
            yield pid


def pin(pid: int, core: int) -> None:
    """Let the process, with all its threads and what it starts later, run on one core only."""
    for thread in (PROC / str(pid) / "task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})
