"""The commands that run the service, when nobody reads what they print."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dev_stack import TRACKER, environment
from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings
from tracker.runtime.dev_valkey import until

SERVE = ("serve", "--auth", "none", "--port", "0")
COMMANDS = {
    "one process": SERVE,
    "several processes": (*SERVE, "--processes", "2"),
    "dev": ("dev", "--port", "0", "--workers", "1"),
}


@pytest.fixture(params=list(COMMANDS.values()), ids=list(COMMANDS))
def words(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """A command that prints `ready`. For `dev`, the directory of its data is given."""
    words: tuple[str, ...] = request.param
    return (*words, "--data-dir", str(tmp_path / "data")) if words[0] == "dev" else words


@pytest.fixture
def unread() -> Iterator[int]:
    """The end for writing of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_a_service_runs_on_and_stops_in_order_if_nobody_reads_that_it_is_ready(
    words: tuple[str, ...], unread: int, settings: Settings, tmp_path: Path
) -> None:
    assert settings.redis_url
    log = tmp_path / "log"
    changes = {} if words[0] == "dev" else {"REDIS_URL": settings.redis_url}
    with (
        log.open("w") as errors,
        subprocess.Popen((*TRACKER, *words), stdout=unread, stderr=errors, env=environment(changes)) as process,
    ):
        try:
            assert until(lambda: _is_discarded(process.pid) or process.poll() is not None, LONGEST_WAIT)
            assert process.poll() is None, log.read_text()[-2000:]
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_WAIT) == 0, log.read_text()[-2000:]
        finally:
            process.kill()


def _is_discarded(pid: int) -> bool:
    """Whether the standard output of a process leads to the null device, as after a line that nobody could read."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink() == Path(os.devnull)
    except OSError:
        return False


def test_the_exit_code_is_right_if_nobody_reads_the_reason(unread: int) -> None:
    words = (*TRACKER, "get", "call", "operation", "--url", "http://127.0.0.1:1")
    assert subprocess.run(words, stdout=unread, stderr=unread, check=False).returncode == 3
