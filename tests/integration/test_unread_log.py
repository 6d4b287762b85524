"""Processes whose log nobody reads: they work as if it were read."""

import os
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.dev_stack import TRACKER, Client, environment
from tests.support.processes import ROOT
from tests.support.waiting import LONGEST_WAIT
from tests.support.worker_processes import Worker, create, final, running_worker
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.store.store import Store


@pytest.fixture
def full() -> Iterator[int]:
    """The end for writing of a pipe that is full, and that nobody reads."""
    read, write = os.pipe()
    own = os.open(f"/proc/self/fd/{write}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(own, b"." * 512)
    os.close(own)
    yield write
    os.close(write)
    os.close(read)


@pytest.fixture
async def worker(full: int, tmp_path: Path, settings: Settings) -> AsyncIterator[Worker]:
    """A worker whose log is a full pipe, and which logs much."""
    assert settings.redis_url
    async with running_worker(tmp_path, output_to=full, TRACKER_LOG_LEVEL="debug") as worker:
        yield worker


async def test_a_worker_runs_operations_and_stops(worker: Worker, store: Store, tmp_path: Path) -> None:
    waits = await create(store, "waits")
    records = [await create(store, kind, members={"mebibytes": 0}) for kind in ("dies", "grows") for _ in range(5)]
    ended = [await final(store, record) for record in records]
    assert {record.status for record in ended} == {OperationStatus.COMPLETED, OperationStatus.FAILED}
    (tmp_path / f"{waits.id}.go").touch()
    assert (await final(store, waits)).attempt == 1
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_serve_answers_and_stops(full: int, settings: Settings, processes: int) -> None:
    words = (*TRACKER, "serve", "--auth", "none", "--port", "0", "--processes", str(processes))
    changes = {"REDIS_URL": settings.redis_url, "TRACKER_LOG_LEVEL": "debug"}
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, env=environment(changes)
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            for _ in range(50):
                with urllib.request.urlopen(f"{url}/readyz", timeout=LONGEST_WAIT) as answer:
                    assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_WAIT) == 0
        finally:
            process.kill()


def test_dev_runs_operations_and_stops(full: int, tmp_path: Path) -> None:
    words = (*TRACKER, "dev", "--data-dir", str(tmp_path / "data"), "--port", "0", "--workers", "1")
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, env=environment({})
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("ready "):
                    break
            client = Client(line.split()[1])
            status, operation = client("POST", "/communications/calls/a/operations", {})
            assert status == 201
            path = f"/communications/calls/a/operations/{operation['id']}"
            while client("GET", path)[1]["status"] != "Completed":
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_WAIT) == 0
        finally:
            process.kill()
