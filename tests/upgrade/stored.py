"""The stored data of another version, copies of it, and `tracker dev` of this version on a copy."""

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from tests.support.dev_stack import TRACKER, Dev, environment, running_dev
from tests.upgrade.asking import PUBLIC_URL, TOKENS, Answer, Json, Question, ask

HERE = Path(__file__).parent
TEN_YEARS = str(3650 * 86400)
CLOCK, SWEEPER = "tracker:clock", "tracker:sweeper"
"""Keys of Redis: the microseconds that scripts add to the server's time, and the lock of the process that sweeps."""


class Told(NamedTuple):
    """What the other version answered about its data, as `make_stored` wrote it."""

    commit: str
    killed: int
    """When the other version was killed, in microseconds since 1970."""
    operations: int
    created: Mapping[str, Json]
    why: Mapping[str, Json]
    answers: list[tuple[Question, Answer]]

    @classmethod
    def read(cls, name: str) -> "Told":
        told = json.loads((HERE / "stored" / f"{name}.json").read_text())
        asked = [(Question(**question), Answer(**answer)) for question, answer in told.pop("answers")]
        return cls(**told, answers=asked)


class Copy:
    """A copy of the stored data."""

    def __init__(self, told: Told, directory: Path) -> None:
        self.told, self.directory = told, directory
        with tarfile.open(HERE / "stored" / f"{told.commit[:7]}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
        self.data = directory / "data"
        self.spool = self.data / "spool"
        (directory / "all.go").touch()  # handlers do not wait: see `stored_types`

    def begin(self, *, after: float) -> None:
        """Set the time at which the server starts, in seconds after the kill, and hold the sweeper's lock.

        So the result of a test depends neither on the day nor on the seconds until it calls `let_sweep`. Both are
        commands that are appended to the server's append-only file, in the Redis protocol.
        """
        offset = self.told.killed + round((after - time.time()) * 1_000_000)
        [log] = (self.data / "appendonlydir").glob("*.incr.aof")
        with log.open("ab") as file:
            for words in (("SET", CLOCK, str(offset)), ("SET", SWEEPER, "the test")):
                file.write(f"*{len(words)}\r\n".encode())
                file.writelines(f"${len(word)}\r\n{word}\r\n".encode() for word in words)

    @contextmanager
    def opened(self, *options: str, **changes: str) -> Iterator["Opened"]:
        """A `tracker dev` of this version on the copy."""
        other = sha256(TOKENS["other"].encode()).hexdigest()
        settings = {
            "PYTHONPATH": str(HERE),
            "TEST_HANDLERS_DIR": str(self.directory),
            "TRACKER_TYPES": "stored_types,stored_types_lacking",
            "TRACKER_UNKNOWN_TYPES": "accept",
            "TRACKER_URL_HANDLERS": "#stored.remote=http://127.0.0.1:1/",
            "TRACKER_TOKENS": f"other:other:{other}",
            "TRACKER_PUBLIC_URL": PUBLIC_URL,
            "TRACKER_TEST_CLOCK": "1",
            **dict.fromkeys(("TRACKER_RETENTION", "TRACKER_TOMBSTONE", "TRACKER_IDEMPOTENCY"), TEN_YEARS),
            **changes,
        }
        with running_dev(self.data, *options, **settings) as dev:
            yield Opened(dev, self, settings)


class Opened:
    """A running `tracker dev` on a copy."""

    def __init__(self, dev: Dev, copy: Copy, settings: Mapping[str, str]) -> None:
        self.dev, self._copy = dev, copy
        self.redis_url = next(line.split()[1] for line in dev.told.splitlines() if line.startswith("redis "))
        self.environment = environment({**settings, "REDIS_URL": self.redis_url})

    def let_sweep(self) -> None:
        """Release the sweeper's lock."""
        with Redis.from_url(self.redis_url) as redis:
            redis.delete(SWEEPER)

    def advance(self, seconds: float) -> None:
        """Move the server's time forward."""
        with Redis.from_url(self.redis_url) as redis:
            redis.incrby(CLOCK, round(seconds * 1_000_000))

    def ask(self, question: Question) -> Answer:
        return ask(self.dev.url, question)

    def operation(self, name: str) -> Answer:
        """The answer to a GET of a stored operation, by its name in `stored_operations`."""
        created = self._copy.told.created[name]
        return self.ask(Question(created["path"], created["tenant"]))

    def tracker(self, *words: str) -> Any:
        """Run a command, and return the JSON that it prints. Raises CalledProcessError when it fails."""
        command = (*TRACKER, *words, "--output", "json")
        return json.loads(subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True).stdout)

    def events(self, event: str) -> list[Json]:
        """The log lines of an event, of all its processes."""
        return [line for line in self._logged() if line["event"] == event]

    def errors(self) -> list[Json]:
        """The log lines of level error or critical, of all its processes."""
        return [line for line in self._logged() if line["level"] in {"error", "critical"}]

    def _logged(self) -> list[Json]:
        lines = self._copy.data.with_suffix(".log").read_text().split("\n")
        texts = (line.partition(" | ")[2] for line in lines[:-1])  # the last line may be unfinished
        return [json.loads(text) for text in texts if text.startswith("{")]
