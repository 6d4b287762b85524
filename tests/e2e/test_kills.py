"""200 operations in flight, and every kind of process killed in turn: nothing is lost, nothing goes backwards."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.dev import Client, Dev, descendants, running_dev
from tracker.embedded import until

PATH = "/communications/calls/kills/operations"
OPERATIONS = 200
ORDER = {"NotStarted": 0, "Running": 1, "Completed": 2, "Failed": 2}
KINDS = ("api", "supervisor", "rq worker", "work horse", "valkey", "all at once")


class Poller(threading.Thread):
    """Reads every operation again and again, and notes each that went backwards or changed after its end."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self.last: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.polls = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            with suppress(OSError):
                status, page = self._client("GET", f"{PATH}?$top=999")
                if status == 200:
                    self.polls += 1
                    for resource in page["value"]:
                        self.note(resource)

    def note(self, now: dict[str, Any]) -> None:
        before = self.last.get(now["id"])
        self.last[now["id"]] = now
        if before is None:
            return
        if ORDER[now["status"]] < ORDER[before["status"]] or now["attempt"] < before["attempt"]:
            self.wrong.append(f"went backwards: {before} -> {now}")
        if "completedDateTime" in before and now != before:
            self.wrong.append(f"changed after its end: {before} -> {now}")

    def passed(self, number: int) -> bool:
        return self.count("Completed") > number

    def count(self, status: str) -> int:
        return sum(resource["status"] == status for resource in list(self.last.values()))


@contextmanager
def polling(url: str) -> Iterator[Poller]:
    poller = Poller(Client(url))
    poller.start()
    try:
        yield poller
    finally:
        poller.done.set()
        poller.join(20)


def horses(dev: Dev) -> list[int]:
    """Work horses that run an operation: below the supervisor and an RQ worker, with a handler's process below."""
    workers = children(dev.children["worker"])
    return [horse for worker in workers for horse in children(worker) if children(horse)]


def children(pid: int) -> list[int]:
    found = descendants(pid)
    return [child for child in found if f"PPid:\t{pid}\n" in status_of(child)]


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def victims(kind: str, dev: Dev) -> list[int]:
    match kind:
        case "api" | "valkey":
            return [dev.children[kind]]
        case "supervisor":
            return [dev.children["worker"]]
        case "rq worker":
            return [worker for worker in children(dev.children["worker"]) if any(map(children, children(worker)))][:1]
        case "work horse":
            return horses(dev)[:1]
        case _:
            return [dev.process.pid, *descendants(dev.process.pid)]


def kill(kind: str, dev: Dev) -> int:
    """Kill while operations run; return how many ran."""
    ran: list[int] = []
    chosen: list[int] = []

    def found() -> bool:
        ran[:] = horses(dev)
        chosen[:] = victims(kind, dev) if ran else []
        return bool(chosen)

    assert until(found, 30), f"{kind}: nothing ran within 30 s"
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(ran)


@pytest.mark.timeout(240)
def test_every_accepted_operation_ends_once_whatever_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILLS_SEED") or random.randrange(10**6))
    print(f"KILLS_SEED={seed}")
    order = [*KINDS[:-1]]
    random.Random(seed).shuffle(order)
    options = ("--workers", "2", "--types", "tests.handlers")
    environment = {"TEST_HANDLERS_DIR": str(tmp_path), "TRACKER_LOG_LEVEL": "warning"}
    hits: dict[str, int] = {}

    with running_dev(tmp_path / "data", *options, **environment) as dev:
        client = Client(dev.url)
        for number in range(OPERATIONS):
            body = {"@odata.type": "#test.recorded", "id": f"op-{number}", "seconds": 0.1}
            assert client("POST", PATH, body)[0] == 201
        with polling(dev.url) as poller:
            for kind in order:
                ended = poller.count("Completed")
                hits[kind] = kill(kind, dev)
                assert until(partial(poller.passed, ended + 3), 30), f"stands still after {kind}"
            hits["all at once"] = kill("all at once", dev)
        dev.process.wait(10)
        before, wrong, polls = dict(poller.last), poller.wrong, poller.polls

    with running_dev(tmp_path / "data", *options, **environment) as dev, polling(dev.url) as poller:
        poller.last.update(before)
        begun = time.monotonic()
        assert until(partial(poller.passed, OPERATIONS - 1), 90), poller.last
        took = time.monotonic() - begun
        print(f"hit: {hits}; all ended {took:.1f} s after the last start; {polls + poller.polls} polls")

    assert not [*wrong, *poller.wrong]
    assert set(poller.last) == {f"op-{number}" for number in range(OPERATIONS)}
    assert poller.count("Completed") == OPERATIONS
    assert all(hits[kind] > 0 for kind in KINDS), f"a kind of kill hit no running work: {hits}"
    ends = [line.split()[0] for line in (tmp_path / "ends").read_text().splitlines()]
    assert set(ends) == set(poller.last), "the record says Completed only where a handler ended"
