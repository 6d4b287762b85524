"""Fuzz run: mutated bytes to the parsers and to a running API: `make fuzz`, or `python -m chaos.fuzz`.

Each parser of texts that clients choose gets mutations of good and bad examples. It may raise an error of ours, and
nothing else, and must not take long. Then a running API gets mutated requests on raw sockets. It must answer each
connection in time, or close it, and never with a 5xx but 501 and 503. Its memory is printed before and after.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Final

from chaos.fuzz_inputs import EXPECTED, REQUESTS, TARGETS, TOKEN, mutated
from chaos.stack import free_port, ready
from tracker.errors import TrackerError
from tracker.runtime.dev_valkey import PrivateServer
from tracker.runtime.processes import Child, Supervisor

LONGEST_PARSE: Final = 2.0
"""The longest time in seconds that a parser may take for one input, on a busy machine."""
LONGEST_ANSWER: Final = 30.0
"""The longest time in seconds until the API has answered or closed a connection that sends nothing more."""
CONNECTIONS: Final = 16
"""How many connections are fuzzed at once."""
MOST_FAILURES: Final = 20
_ALLOWED: Final = {501, 503}
_STATUS: Final = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)


def fuzz_parsers(inputs: int, chances: random.Random) -> list[str]:
    """Feed so many inputs to the parsers. Returns what went wrong."""
    failures: list[str] = []
    names = list(TARGETS)
    slowest = (0.0, "")
    for number in range(inputs):
        name = names[number % len(names)]
        data = mutated(TARGETS[name].examples, chances)
        begun = time.perf_counter()
        try:
            TARGETS[name].parse(data)
        except TrackerError:
            pass
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            if not isinstance(error, EXPECTED.get(name, ())):
                failures.append(f"{name}: {type(error).__name__}: {error} for {data!r:.200}")
        took = time.perf_counter() - begun
        slowest = max(slowest, (took, name))
        if took > LONGEST_PARSE:
            failures.append(f"{name}: took {took:.1f} s for {data!r:.200}")
        if len(failures) >= MOST_FAILURES:
            break
    print(
        f"{number + 1:,} inputs to {len(names)} parsers, slowest {1000 * slowest[0]:.1f} ms ({slowest[1]})", flush=True
    )
    return failures


async def fuzz_sockets(url: tuple[str, int], seconds: float, chances: random.Random) -> tuple[Counter[int], list[str]]:
    """Send mutated requests for so long.

    Returns how often each status came, 0 for a connection that was closed without one, and what went wrong.
    """
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    until = time.monotonic() + seconds

    async def fuzz_one_after_another() -> None:
        while time.monotonic() < until and len(failures) < MOST_FAILURES:
            data = mutated(REQUESTS, chances)
            try:
                answer = await asyncio.wait_for(_answer(url, data), LONGEST_ANSWER)
            except TimeoutError:
                failures.append(f"no answer within {LONGEST_ANSWER:g} s to {data!r:.300}")
                continue
            found = [int(status) for status in _STATUS.findall(answer)]
            statuses.update(found or [0])
            if wrong := [status for status in found if status >= 500 and status not in _ALLOWED]:  # noqa: PLR2004
                failures.append(f"{wrong[0]} for {data!r:.300}")

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(fuzz_one_after_another())
    return statuses, failures


async def _answer(url: tuple[str, int], data: bytes) -> bytes:
    """All that the API sends after these bytes and the end of the client's half, until it closes the connection."""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(*url)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.transport.abort()
    return b""


def _memory(pid: int) -> float:
    """The resident memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def run(directory: Path, options: argparse.Namespace, chances: random.Random) -> list[str]:
    """Start an API, and fuzz it. Returns what went wrong."""
    server, port = PrivateServer(directory / "data"), free_port()
    server.prepare()
    tokens = f"fuzz:fuzz:{sha256(TOKEN.encode()).hexdigest()}"
    about: dict[str, Any] = {"REDIS_URL": server.url, "TRACKER_TOKENS": tokens, "TRACKER_PORT": str(port)}
    about["TRACKER_WRONG_TOKENS"] = "1000000"
    with (directory / "output.log").open("w") as output:
        keeper = Supervisor(
            [
                Child("valkey", server.argv()),
                Child("api", (sys.executable, "-m", "tracker.cli.main", "serve"), about),
            ],
            on_line=lambda name, line: print(f"{name}: {line}", file=output, flush=True),
        )
        keeper.start("valkey")
        running = asyncio.create_task(keeper.run())
        try:
            await asyncio.wait_for(ready([f"http://127.0.0.1:{port}"]), LONGEST_ANSWER)
            await fuzz_sockets(("127.0.0.1", port), 1.0, chances)
            pid = keeper.pids["api"]
            before = _memory(pid)
            statuses, failures = await fuzz_sockets(("127.0.0.1", port), 60 * options.minutes, chances)
            await asyncio.sleep(1)
            after = _memory(pid)
            if keeper.pids.get("api") != pid:
                failures.append("the API has ended")
            counts = ", ".join(f"{count:,} × {status or 'closed'}" for status, count in sorted(statuses.items()))
            print(f"{sum(statuses.values()):,} answers: {counts}; memory {before:.1f} -> {after:.1f} MB", flush=True)
            return failures
        finally:
            await keeper.stop([(0, SIGTERM), (20, SIGKILL)])
            await running


def main() -> int:
    """Run with the options of the command line. Returns the exit code: 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaos.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the run on sockets in minutes (10)")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many inputs the parsers get (1000000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the mutations (random)")
    options = parser.parse_args()
    print(f"seed {options.seed}: python -m chaos.fuzz --seed {options.seed}", flush=True)
    chances = random.Random(options.seed)
    failures = fuzz_parsers(options.inputs, chances) if options.inputs else []
    if options.minutes:
        directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
        failures += asyncio.run(run(directory, options, chances))
    for failure in failures:
        print(f"FAILURE {failure}")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
