"""Profiles of a process under load, by py-spy, as the processor time of each function per operation."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

RATE = 500
"""Samples per second."""
OWN, WITHIN = 25, 40
"""How many functions are shown at most: by their own time, and by their time with the functions that they call."""


class Profile(NamedTuple):
    """Counts of samples in which the process was at work.

    * `looks`: how many samples there are.
    * `own`: for each function, the samples in which this function ran.
    * `within`: for each function, the samples in which this function was on the stack.
    """

    looks: int
    own: Counter[str]
    within: Counter[str]


async def sample(pid: int, seconds: int) -> Profile:
    """Sample a process for some seconds. Exits when py-spy is missing, or may not read the process.

    Time in C counts for the Python function that made the call.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise SystemExit("py-spy is not installed; `make bench-profile` installs it")
    with tempfile.NamedTemporaryFile() as file:
        options = ["--rate", str(RATE), "--duration", str(seconds), "--format", "raw", "--output", file.name]
        process = await asyncio.create_subprocess_exec(
            *(str(program), "record", "--pid", str(pid), *options),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise SystemExit(errors.decode())
        return profile_of(file.read().decode().splitlines())


def profile_of(lines: Iterable[str]) -> Profile:
    """Count the lines of a raw profile. A line has frames, the outermost first, and the number of samples with them."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in lines:
        stack, _, times = line.rpartition(" ")
        frames = [function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(times)
        within.update(dict.fromkeys(frames, int(times)))
    return Profile(own.total(), own, within)


def function(frame: str) -> str:
    """A frame without its line number, and with the last two parts of the file's path only."""
    name, _, position = frame.rstrip(")").partition(" (")
    return f"{name} ({'/'.join(Path(position.rpartition(':')[0] or position).parts[-2:])})" if position else name


def shown(profile: Profile, cost: float) -> Iterator[str]:
    """Lines of text. `cost` is the processor time of an operation in microseconds."""
    yield f"{cost:,.0f} us of processor time per operation; {profile.looks} samples"
    for title, counts, most in (("self", profile.own, OWN), ("with what it calls", profile.within, WITHIN)):
        yield f"{title}:"
        everywhere = {name for name, times in counts.items() if times == profile.looks}
        for name, times in [pair for pair in counts.most_common() if pair[0] not in everywhere][:most]:
            yield f"{times / profile.looks * cost:9.1f} us {times / profile.looks:6.1%}  {name}"
