"""Demo: four operations run through `tracker dev`, and every answer is checked (`make demo`).

The demo exits with 0 only if three conditions hold: the operations end as Completed, Completed, Completed and Failed;
the hash is the same as the hash computed here; and a list of the call then contains the same four operations.
"""

import asyncio
import hashlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from rich.console import Console
from rich.live import Live
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ROUNDS = 20_000
"""How many times the README is hashed in a row: enough for some reports of progress."""
READY_SECONDS, FINISH_SECONDS, STOP_SECONDS = 60.0, 90.0, 40.0
"""The longest time in seconds until `tracker dev` is ready, until all operations have ended, and until it stops."""
COLLECTION = "/beta/communications/calls/demo/operations"
FINAL = {"Completed", "Failed"}
POLL_SECONDS = 0.2
"""Seconds between two reads of the operations."""
COLUMNS = ("id", "type", "status", "percent", "detail", "attempt")

Json = dict[str, Any]
console = Console()


class DemoError(Exception):
    """A step of the demo that failed. The message names the step."""


@dataclass(frozen=True)
class Step:
    """One operation to create, and the status with which the operation must end."""

    expected: str
    body: Json


def play(file: str) -> Json:
    """Return the body of a playPromptOperation for one file of examples/media."""
    return {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "prompts": [{"mediaInfo": {"uri": file}}],
        "clientContext": f"play {file}",
    }


STEPS = (
    Step(
        "Completed",
        {
            "@odata.type": "#microsoft.graph.commsOperation",
            "status": "String",
            "clientContext": "Client Context value",
            "resultInfo": {
                "@odata.type": "microsoft.graph.ResultInfo",
                "code": 4,
                "subcode": 7,
                "message": "Message value",
            },
        },
    ),
    Step("Completed", play("welcome.wav")),
    Step("Completed", {"@odata.type": "#contoso.hashFileOperation", "path": README.name, "rounds": ROUNDS}),
    Step("Failed", play("wrong-rate.wav")),
)


@dataclass
class Dev:
    """A running `tracker dev`, with its address and the lines that it has printed so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def listen(self) -> None:
        """Keep every line of output. The line that begins with `ready` ends with the address."""
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            if line.startswith("ready "):
                self.url = line.removeprefix("ready ").strip()
                self.ready.set()
        self.ready.set()

    async def address(self) -> str:
        """Wait for the address. Raises DemoError with the last lines of output when there is none in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ready.wait(), READY_SECONDS)
        if not self.url:
            raise DemoError("tracker dev did not become ready:\n" + "\n".join(self.lines[-30:]))
        return self.url

    async def stop(self) -> None:
        """Stop the process as Ctrl-C does. Kills its session when the process does not end in time."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise DemoError(f"tracker dev did not stop within {STOP_SECONDS:g} s") from None


@asynccontextmanager
async def tracker_dev(token: str) -> AsyncIterator[Dev]:
    """Run `tracker dev` on a free port with a new data directory, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="tracker-demo-") as directory:
        command = ["dev", "--port", "0", "--data-dir", directory, "--types", "examples.contoso.operations"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tracker.cli.main", *command),
            cwd=ROOT,
            env=environment(token),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        dev = Dev(process)
        listening = asyncio.create_task(dev.listen())
        try:
            yield dev
        finally:
            await dev.stop()
            await listening


def environment(token: str) -> dict[str, str]:
    """Return the environment for `tracker dev`, without the settings and the REDIS_URL of this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "REDIS_URL"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TRACKER_DEV_TOKEN": token,
        "TRACKER_LOG_FORMAT": "human",
        "TRACKER_MEDIA_DIR": str(ROOT / "examples" / "media"),
        "CONTOSO_FILES_DIR": str(ROOT),
    }


async def submit(session: ClientSession, body: Json) -> Json:
    """Create one operation and return the answer."""
    async with session.post(COLLECTION, json=body) as answer:
        if answer.status != 201:
            raise DemoError(f"POST answered {answer.status}: {await answer.text()}")
        created: Json = await answer.json()
        return created


async def get(session: ClientSession, path: str) -> Json:
    """Read an operation or the collection. Leaves out `@odata.context`, which the items of a list lack."""
    async with session.get(path) as answer:
        if answer.status != 200:
            raise DemoError(f"GET {path} answered {answer.status}: {await answer.text()}")
        found: Json = await answer.json()
        found.pop("@odata.context")
        return found


async def snapshots(session: ClientSession, ids: list[str]) -> AsyncIterator[list[Json]]:
    """Read the operations again and again until all have ended, and yield each state."""
    operations: list[Json] = []
    while not operations or not all(operation["status"] in FINAL for operation in operations):
        await asyncio.sleep(POLL_SECONDS if operations else 0)
        operations = [await get(session, f"{COLLECTION}/{name}") for name in ids]
        yield operations


async def follow(session: ClientSession, ids: list[str]) -> list[Json]:
    """Show the operations until all have ended, and return them.

    A terminal shows a table that changes in place. Other output gets a line for every change.
    """
    operations: list[Json] = []
    rows: set[tuple[str, ...]] = set()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        async for operations in snapshots(session, ids):
            if live:
                live.update(table(operations), refresh=True)
                continue
            changed = [row(operation) for operation in operations if row(operation) not in rows]
            rows.update(changed)
            for cells in changed:
                print("  ".join(cells))
    return operations


def row(operation: Json) -> tuple[str, ...]:
    """Return the cells of the table for one operation."""
    percent = operation.get("percentComplete")
    return (
        operation["id"][:8],
        operation["@odata.type"].rpartition(".")[2],
        operation["status"],
        "" if percent is None else f"{percent:.0f} %",
        operation.get("statusDetail") or "",
        str(operation.get("attempt", "")),
    )


def table(operations: list[Json]) -> Table:
    """Return the table of the operations."""
    drawn = Table(*COLUMNS)
    for operation in operations:
        drawn.add_row(*row(operation))
    return drawn


def check(operations: list[Json], read_back: list[Json]) -> None:
    """Compare the operations with the expected results. Raises DemoError for the first difference."""
    for step, operation in zip(STEPS, operations, strict=True):
        if operation["status"] != step.expected:
            raise DemoError(f"{operation['id']} is {operation['status']}, not {step.expected}")
    own = hashlib.sha256(README.read_bytes() * ROUNDS).hexdigest()
    if operations[2]["digest"] != own:
        raise DemoError(f"the digest is {operations[2]['digest']}, not {own}")
    if read_back != operations:
        raise DemoError(f"the collection has other operations than the reads: {json.dumps(read_back)}")


async def demonstrate(dev: Dev, token: str) -> None:
    """Create, follow, print and check the four operations."""
    url = await dev.address()
    print(f"tracker dev is ready at {url}")
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession(url, headers=headers, timeout=ClientTimeout(total=30)) as session:
        ids = [(await submit(session, step.body))["id"] for step in STEPS]
        operations = await follow(session, ids)
        listed = {operation["id"]: operation for operation in (await get(session, COLLECTION))["value"]}
    for operation in operations:
        print(json.dumps(operation, indent=2))
    print("The worker's log:")
    for line in dev.lines:
        if line.startswith("worker") and any(name in line for name in ids):
            print(line)
    check(operations, [listed.get(name, {}) for name in ids])


async def main() -> int:
    """Run the demo. Returns the exit code."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    token = secrets.token_urlsafe(24)
    try:
        async with tracker_dev(token) as dev, asyncio.timeout(READY_SECONDS + FINISH_SECONDS):
            await demonstrate(dev, token)
    except (DemoError, ClientError, TimeoutError) as error:
        print(f"demo: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:  # by Ctrl-C or SIGTERM, after `tracker dev` has been stopped
        print("demo: stopped", file=sys.stderr)
        return 1
    print("Completed, Completed, Completed, Failed; the hash is right; all four were read back.")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
