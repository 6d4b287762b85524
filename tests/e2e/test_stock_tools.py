"""RQ's own tools against a running stack."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.dev_stack import Client, Dev, descendants, parent, running_dev
from tests.support.waiting import LONGEST_WAIT
from tracker.runtime.dev_valkey import PrivateServer, until

PATH = "/communications/calls/stock/operations"
RQ = (sys.executable, "-m", "rq.cli")
OURS = ("--job-class", "workers.OperationJob", "--serializer", "json")


def store_url(dev: Dev) -> str:
    return PrivateServer(dev.data_dir).url


def snapshot(url: str) -> dict[bytes, object]:
    """Everything in the store, but what heartbeats, leases and the sweeper write by themselves."""
    alive = (
        b"rq:worker:",
        b"tracker:worker",
        b"tracker:sweeper",
        b"tracker:sweeps",
        b"tracker:leases",
        b"tracker:turns",
        b"tracker:tenants",
    )
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) for key in client.scan_iter() if not key.startswith(alive)}


def states(url: str) -> set[bytes | None]:
    """What the workers say of themselves to RQ."""
    with redis.Redis.from_url(url) as client:
        return {client.hget(key, "state") for key in client.smembers("rq:workers")}


def test_rq_info_shows_queue_and_workers_and_changes_nothing(tmp_path: Path) -> None:
    options = ("--workers", "1", "--types", "tests.support.attempt_types")
    with running_dev(tmp_path / "data", *options, TEST_HANDLERS_DIR=str(tmp_path)) as dev:
        url, client = store_url(dev), Client(dev.url)
        for _ in range(3):
            assert client("POST", PATH, {"@odata.type": "#test.sleeping"})[0] == 201
        running = f"{PATH}/$count?$filter=status%20eq%20'Running'"
        assert until(lambda: client("GET", running)[1] == 3, LONGEST_WAIT)
        before = snapshot(url)
        assert until(lambda: b"busy" in states(url), LONGEST_WAIT), "RQ learns of a worker's state at its next beat"
        words = (*RQ, "info", "--url", url, "--queue-class", "workers.OperationQueue")
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert re.search(r"operations .*0, 3 executing", shown), shown
        assert re.search(r": busy operations\.high, operations, operations\.low", shown), shown
        assert "1 workers, 1 queues" in shown
        assert snapshot(url) == before


@contextmanager
def stock_worker(url: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "REDIS_URL": url,
        "TRACKER_TYPES": "tests.support.attempt_types",
        "TEST_HANDLERS_DIR": str(directory),
    }
    words = (*RQ, "worker", "--url", url, *OURS, "--quiet", "operations")
    with subprocess.Popen(words, env=environment, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_stock_workers_complete_operations_of_three_types_one_of_them_after_its_horse_was_killed(
    tmp_path: Path,
) -> None:
    options = ("--workers", "0", "--types", "tests.support.attempt_types")
    with running_dev(tmp_path / "data", *options, TEST_HANDLERS_DIR=str(tmp_path)) as dev:
        client = Client(dev.url)
        bodies = [{"@odata.type": "#test.once"}, *[{}] * 9, *[{"@odata.type": "#test.plain", "text": "abc"}] * 10]
        for body in bodies:
            assert client("POST", PATH, body)[0] == 201

        def completed() -> Counter[str]:
            return Counter(item["status"] for item in client("GET", PATH)[1]["value"])

        with stock_worker(store_url(dev), tmp_path) as worker:
            started = tmp_path / "started"
            assert until(lambda: started.exists() and started.read_text().endswith("\n"), LONGEST_WAIT)
            horse = next(pid for pid in descendants(worker.pid) if parent(pid) == worker.pid)
            assert int(started.read_text()) in descendants(horse)
            os.kill(horse, signal.SIGKILL)
            assert until(lambda: completed()["Completed"] == 20, LONGEST_WAIT), completed()
