"""A running `tracker dev`, its processes, and a client of its API."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.faults import children
from tests.support.waiting import LONGEST_WAIT

TOKEN = "dev-token"
TRACKER = (sys.executable, "-m", "tracker.cli.main")


@dataclass(frozen=True)
class Dev:
    """A `tracker dev` that has printed `ready`. `told` is all that it printed until then."""

    process: subprocess.Popen[str]
    url: str
    told: str
    data_dir: Path

    @property
    def children(self) -> dict[str, int]:
        recorded = json.loads((self.data_dir / "children.json").read_text())
        return {name: pid for name, (pid, _) in recorded.items()}

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=LONGEST_WAIT) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "REDIS_URL"))}
    return {**ours, "TRACKER_DEV_TOKEN": TOKEN, "TRACKER_DRAIN_SECONDS": "5", **changes}


@contextmanager
def running_dev(data_dir: Path, *options: str, **changes: str) -> Iterator[Dev]:
    log = data_dir.with_suffix(".log")
    words = (*TRACKER, "dev", "--data-dir", str(data_dir), "--port", "0", *options)
    with (
        log.open("a") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(changes)) as process,
    ):
        try:
            assert process.stdout is not None
            told = ""
            while "\nready " not in told:
                line = process.stdout.readline()
                assert line, log.read_text()[-2000:]
                told += line
            yield Dev(process, told.split()[-1], told, data_dir)
        finally:
            process.terminate()
            process.wait(LONGEST_WAIT)


def descendants(pid: int) -> list[int]:
    """Every process below this one, parents first."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def parent(pid: int) -> int:
    """The pid of the process that started a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Client:
    """A plain HTTP client with the dev token."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request; the status and the JSON of the response. Raises OSError while the API cannot be reached."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=LONGEST_WAIT) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
