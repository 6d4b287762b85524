"""Workers as processes: what they log, the operations that they run, and the outcomes that they keep on disk."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.support.processes import ROOT
from tests.support.records import make_record
from tests.support.waiting import eventually, soon
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.store.store import Store

TRACKER = ("-m", "tracker.cli.main", "worker", "--processes", "1")
BY_RQ = ("-m", "rq.cli", "worker", "--worker-class", "workers.OperationWorker", "--quiet")


def one_ticket(record: Record) -> tuple[str, ...]:
    """The command of the process that RQ's own worker starts for a ticket."""
    return "-c", f"from workers.job import run_ticket; run_ticket('{record.key}-{record.ticket}', worker='stock/1')"


class Worker:
    """A worker process and its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self._log = process, log

    def printed(self) -> str:
        return self._log.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event."""
        lines = self.printed().splitlines()
        return [line for text in lines if text.startswith("{") and (line := json.loads(text))["event"] == event]

    async def wait_for_log(self, event: str) -> dict[str, Any]:
        """Wait for the first log line of an event. Fails when the worker ends before."""

        async def line() -> dict[str, Any] | None:
            for found in self.logged(event):
                return found
            assert self.process.returncode is None, self.printed()[-3000:]
            return None

        return await eventually(line)

    async def ends(self) -> int:
        """Wait for the end of the process; its exit code."""
        return await soon(self.process.wait())


@asynccontextmanager
async def running_worker(
    directory: Path,
    *options: str,
    command: tuple[str, ...] = TRACKER,
    url: str = "",
    output_to: int | None = None,
    **environment: str,
) -> AsyncIterator[Worker]:
    """A worker with the file-controlled types. It is killed at the end if it is still alive.

    Its output goes to a file, or to the descriptor `output_to`.
    """
    url = url or os.environ["REDIS_URL"]
    log = directory / f"worker-{token_hex(4)}.log"
    changes = {
        "TRACKER_TYPES": "tests.support.file_controlled_types",
        "TEST_HANDLERS_DIR": str(directory),
        "TRACKER_LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, *options),
            cwd=ROOT,
            env={**os.environ, **changes, "REDIS_URL": url, "RQ_REDIS_URL": url, **environment},
            stdout=output if output_to is None else output_to,
            stderr=output if output_to is None else output_to,
        )
    try:
        yield Worker(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def spooled(spool: Path) -> list[list[str]]:
    """The outcomes in the spool."""
    lines: list[str] = []
    for file in spool.glob("*"):
        with suppress(FileNotFoundError):  # its outcomes have been written meanwhile
            lines += file.read_text().splitlines()
    decoded = [json.loads(line) for line in lines if line]
    return [line for line in decoded if isinstance(line, list)]  # without the line that holds the version


def spools(spool: Path, count: int) -> Callable[[], Awaitable[bool]]:
    """A condition for `eventually`: the spool has so many outcomes."""

    async def check() -> bool:
        return len(spooled(spool)) == count

    return check


async def create(store: Store, kind: str, *, members: dict[str, Any] | None = None, **policy: Any) -> Record:
    """Store an operation of a file-controlled type."""
    record = make_record(type=f"#executor.{kind}", members=members or {}, policy=Policy(**policy))
    return (await store.create(record))[0]


async def now(store: Store, record: Record) -> Record:
    [found] = await store.read([record.key])
    return found


async def final(store: Store, record: Record) -> Record:
    """Wait until the operation has ended; its record."""

    async def ended() -> Record | None:
        found = await now(store, record)
        return found if found.status.final else None

    return await eventually(ended)


def reaches(store: Store, record: Record, stage: Stage) -> Callable[[], Awaitable[Record | None]]:
    """A condition for `eventually`: the operation is in a stage."""

    async def check() -> Record | None:
        found = await now(store, record)
        return found if found.stage is stage else None

    return check
