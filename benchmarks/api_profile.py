"""Where a server's time goes: py-spy looks at it while it is under load, and stacks become shares of its time."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

LOOKS = 500
"""Per second."""
OWN, WITHIN = 25, 40
"""Functions that are shown."""


class Profile(NamedTuple):
    """How often the process was seen at work: by the function that ran, and by each that had not returned."""

    looks: int
    own: Counter[str]
    within: Counter[str]


async def sample(pid: int, seconds: int) -> Profile:
    """Look at a process for so long. Time in C is its Python caller's. Exits when py-spy is not there, or may not."""
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise SystemExit("py-spy is not installed: `make bench-profile` does that")
    with tempfile.NamedTemporaryFile() as file:
        options = ["--rate", str(LOOKS), "--duration", str(seconds), "--format", "raw", "--output", file.name]
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
    """Count what lines say: frames from the outermost, separated by semicolons, and how often they were seen."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in lines:
        stack, _, times = line.rpartition(" ")
        frames = [function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(times)
        within.update(dict.fromkeys(frames, int(times)))
    return Profile(own.total(), own, within)


def function(frame: str) -> str:
    """A frame without its line, and with the end of its file's path only."""
    name, _, place = frame.rstrip(")").partition(" (")
    return f"{name} ({'/'.join(Path(place.rpartition(':')[0] or place).parts[-2:])})" if place else name


def shown(profile: Profile, cost: float) -> Iterator[str]:
    """Lines of text; `cost` is an operation's processor time, in microseconds."""
    yield f"{cost:,.0f} us of processor time per operation; {profile.looks} looks"
    for title, counts, most in (("self", profile.own, OWN), ("with what it calls", profile.within, WITHIN)):
        yield f"{title}:"
        everywhere = {name for name, times in counts.items() if times == profile.looks}
        for name, times in [pair for pair in counts.most_common() if pair[0] not in everywhere][:most]:
            yield f"{times / profile.looks * cost:9.1f} us {times / profile.looks:6.1%}  {name}"
