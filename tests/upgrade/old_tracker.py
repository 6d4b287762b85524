"""The version that stores the data: its command line, and its running `tracker dev`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support.waiting import LONGEST_WAIT
from tests.upgrade.asking import Json, Question, ask


class Created(NamedTuple):
    """An operation that was created."""

    id: str
    path: str
    tenant: str


class Tracker(NamedTuple):
    """The command line of the version. `words` start it, in the directory `directory`."""

    words: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]

    def json(self, *words: str) -> Any:
        """Run a command, and return the JSON that it prints."""
        command = (*self.words, *words, "--output", "json")
        done = subprocess.run(command, cwd=self.directory, env=self.environment, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *words: str, **changes: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
        """A running command, and the lines that it printed until it was ready. It is killed at the end."""
        environment = {**self.environment, **changes}
        with (
            (self.directory / f"{words[0]}.log").open("a") as log,
            subprocess.Popen(
                (*self.words, *words),
                cwd=self.directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                printed = [""]
                while not printed[-1].startswith("ready "):
                    printed.append(process.stdout.readline())
                    assert printed[-1], f"see {log.name}"
                yield process, printed
            finally:
                process.kill()


class Old:
    """A running `tracker dev`. `created` holds its operations by the names that `stored_operations` gives them.

    A handler waits for files in the directory `released`: see `stored_types`.
    """

    def __init__(self, url: str, data: Path, released: Path) -> None:
        self.url, self.data, self.released = url, data, released
        self.created: dict[str, Created] = {}

    def create(
        self,
        name: str,
        kind: str,
        *,
        call: str = "call 1",
        tenant: str = "dev",
        own_id: bool = True,
        headers: Mapping[str, str] | None = None,
        url: str = "",
        **members: Any,
    ) -> str:
        """Create an operation, and return its path.

        The id is the name of the operation, unless `members` hold an `id` or `own_id` is false. `url` is another API.
        """
        body = {"@odata.type": kind, **({"id": name} if own_id else {}), **members}
        answer = ask(url or self.url, Question(collection(call), tenant, "POST", headers or {}, body))
        assert answer.status == 201, (name, answer)
        path = f"{collection(call)}/{answer.body['id']}"
        self.created[name] = Created(answer.body["id"], path, tenant)
        return path

    def change(self, method: str, path: str, body: Json | None = None) -> None:
        answer = ask(self.url, Question(path, method=method, body=body))
        assert answer.status < 300, (path, answer)

    def until(self, path: str, holds: Callable[[Json], bool], *, tenant: str = "dev") -> None:
        """Wait until the condition holds for the operation."""

        def as_wanted() -> bool:
            answer = ask(self.url, Question(path, tenant))
            assert answer.status == 200, (path, answer)
            return holds(answer.body)

        eventually(as_wanted, path)

    def child(self, name: str) -> int:
        """The process id of a child of `tracker dev`."""
        pid: int = json.loads((self.data / "children.json").read_text())[name][0]
        return pid

    def restart_worker(self, signum: signal.Signals) -> None:
        """Send a signal to the worker, and wait until another worker has started."""
        before = self.child("worker")
        os.kill(before, signum)
        eventually(lambda: self.child("worker") != before, "another worker")


def collection(call: str) -> str:
    return f"/communications/calls/{quote(call, safe='')}/operations"


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LONGEST_WAIT
    while not holds():
        assert time.monotonic() < end, f"not within {LONGEST_WAIT} s: {what}"
        time.sleep(0.05)
