"""A private Valkey under callgrind (valgrind's counter of instructions), and the counts that callgrind writes."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from benchmarks.drain import free_port
from benchmarks.processes import running
from benchmarks.ratios import NotMeasured
from tracker.runtime.dev_valkey import TUNABLES, PrivateServer

MARK = "echoCommand"
"""The function of the server at whose start callgrind writes a count: that of ECHO, which no other client sends."""
TIMER = "serverCron"
"""The function that the server's timer calls ten times a second. callgrind makes operations some fifty times slower,
so that the timer would have fifty times its real share.
"""
START_WITHIN = 60.0
"""The longest time in seconds until the server answers."""


class CountedServer:
    """A Valkey whose instructions are counted."""

    def __init__(self, redis: "Redis", url: str, files: Path) -> None:
        self.url = url
        self._redis, self._files, self._count = redis, files, 0

    def mark(self) -> int:
        """How many instructions the server executed since the last mark. Raises NotMeasured without a count."""
        self._redis.echo("mark")
        self._count += 1
        file = self._files.with_name(f"{self._files.name}.{self._count}")
        if not file.exists():
            raise NotMeasured(f"callgrind found no {MARK} in the server's program: the program must have its symbols")
        return instructions(file.read_text().splitlines())


def instructions(lines: Iterable[str]) -> int:
    """The total of a file that callgrind wrote. Raises ValueError when the file has none.

    The format: valgrind's manual, "Callgrind Format Specification". The file names its events in order, and then
    gives the sum of each under `summary` or, in another version, `totals`.
    """
    events = ["Ir"]
    for line in lines:
        name, _, rest = line.partition(": ")
        if name == "events":
            events = rest.split()
        elif name in {"summary", "totals"}:
            return int(rest.split()[events.index("Ir")])
    raise ValueError("the file of callgrind has no total")


def valgrind() -> str:
    """The path of valgrind. Exits when it is missing."""
    if path := shutil.which("valgrind"):
        return path
    raise SystemExit("valgrind is missing: install it, on Debian by `apt-get update && apt-get install valgrind`.")


@asynccontextmanager
async def counted_server() -> AsyncIterator[CountedServer]:
    """Run an empty Valkey under callgrind, with the options of `tracker dev`, except for what depends on time.

    The file is not synced. Instructions of the server's timer are not counted. The server's log of slow commands is
    off, because under callgrind most commands are slow. glibc's allocator is used on every machine: jemalloc returns
    memory by the clock.
    """
    with tempfile.TemporaryDirectory() as directory:
        server = PrivateServer(Path(directory) / "data", port=free_port(), appendfsync="no")
        server.prepare()
        files = Path(directory) / "callgrind"
        counter = ["--tool=callgrind", "--quiet", f"--callgrind-out-file={files}", f"--dump-before={MARK}"]
        # --toggle-collect turns --collect-atstart off, so --collect-atstart has to follow.
        counter += [f"--toggle-collect={TIMER}", "--collect-atstart=yes"]
        _, _, *program = server.argv()  # "env", the allocator, the server and its options
        options = ["--slowlog-log-slower-than", "-1", "--logfile", str(Path(directory) / "log")]
        argv = ["env", f"GLIBC_TUNABLES={TUNABLES}", valgrind(), *counter, *program, *options]
        url = f"redis://127.0.0.1:{server.port}/0"
        async with running(*argv, env={}):
            with Redis.from_url(url) as redis:
                await _answers(redis)
                yield CountedServer(redis, url, files)


async def _answers(redis: "Redis") -> None:
    """Wait until the server answers. Raises NotMeasured."""
    for _ in range(round(START_WITHIN / 0.1)):
        with suppress(RedisError):
            if redis.ping():
                return
        await asyncio.sleep(0.1)
    raise NotMeasured(f"the server under valgrind does not answer after {START_WITHIN:.0f} s")
