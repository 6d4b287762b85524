"""SIGHUP at the commands that run the service, and the end of their terminal."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from chaos.faults import children
from tests.support.dev_stack import running_dev
from tests.support.processes import ROOT, alive
from tests.support.waiting import LONGEST_WAIT
from tests.support.worker_processes import running_worker
from tracker.config import Settings
from tracker.runtime.dev_valkey import until

TRACKER = (sys.executable, "-m", "tracker.cli.main")
SERVE = (*TRACKER, "serve", "--port", "0", "--auth", "tokens")


def line(token: str) -> str:
    return f"{token}:test:{sha256(token.encode()).hexdigest()}\n"


def status(url: str, token: str) -> int:
    request = urllib.request.Request(f"{url}/communications/calls/a/operations")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=LONGEST_WAIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def file(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of tokens. Without SIGHUP nothing reads it again within the test."""
    assert settings.redis_url
    path = tmp_path / "tokens"
    path.write_text(line("old"))
    monkeypatch.setenv("TRACKER_TOKENS_FILE", str(path))
    monkeypatch.setenv("TRACKER_WRONG_TOKENS", "100000")  # the test asks with removed tokens again and again
    return path


@contextmanager
def serving(log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with (
        log.open("w") as errors,
        subprocess.Popen((*SERVE, *options), stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready "), log.read_text()[-2000:]
            yield process, ready.split()[1]
        finally:
            process.terminate()
            process.wait(LONGEST_WAIT)


def statuses(url: str, token: str) -> set[int]:
    """The statuses of some requests, each on a connection of its own, which the kernel gives to any process."""
    return {status(url, token) for _ in range(10)}


def reloads(log: Path) -> int:
    return log.read_text().count("tokens_reloaded")


@pytest.mark.parametrize("processes", [1, 2])
def test_serve_reads_its_tokens_again_at_sighup_and_goes_on(file: Path, tmp_path: Path, processes: int) -> None:
    log = tmp_path / "log"
    with serving(log, "--processes", str(processes)) as (process, url):
        before = set(children(process.pid))
        for number in range(1, 4):
            file.write_text(line(f"new-{number}"))
            process.send_signal(signal.SIGHUP)
            assert until(lambda number=number: reloads(log) >= number * processes, LONGEST_WAIT)  # type: ignore[misc]
            assert until(lambda number=number: statuses(url, f"new-{number}") == {200}, LONGEST_WAIT)  # type: ignore[misc]
            assert statuses(url, f"new-{number - 1}") == {401}
        assert set(children(process.pid)) == before
        assert process.poll() is None


def test_dev_passes_sighup_to_its_api_and_goes_on(file: Path, tmp_path: Path) -> None:
    with running_dev(
        tmp_path / "data", "--workers", "1", TRACKER_TOKENS_FILE=str(file), TRACKER_WRONG_TOKENS="100000"
    ) as dev:
        before = dev.children
        file.write_text(line("new"))
        dev.process.send_signal(signal.SIGHUP)
        assert until(lambda: status(dev.url, "new") == 200 and status(dev.url, "old") == 401, LONGEST_WAIT)
        assert until(lambda: reloads((tmp_path / "data").with_suffix(".log")) >= 1, LONGEST_WAIT)
        assert dev.children == before
        assert all(map(alive, before.values()))


async def test_a_worker_works_on_at_sighup(settings: Settings, tmp_path: Path) -> None:
    assert settings.redis_url
    async with running_worker(tmp_path) as worker:
        await worker.wait_for_log("worker_ready")
        worker.process.send_signal(signal.SIGHUP)
        await worker.wait_for_log("reload_ignored")
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ends() == 0


@pytest.mark.parametrize("words", [("serve", "--auth", "none"), ("serve", "--processes", "2"), ("worker",)])
def test_a_command_stops_in_order_when_its_terminal_is_closed(file: Path, words: tuple[str, ...]) -> None:
    assert file.exists()
    ours, theirs = pty.openpty()
    options = ("--port", "0") if words[0] == "serve" else ("--processes", "1")
    process = subprocess.Popen(
        (*TRACKER, *words, *options), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - this process has no other thread
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while b"ready" not in shown:
            shown += os.read(ours, 4096)
    finally:
        os.close(ours)
    below = children(process.pid)
    try:
        assert process.wait(LONGEST_WAIT) == 0, "not by the signal"
    finally:
        process.kill()
        process.wait(LONGEST_WAIT)
    assert until(lambda: not any(map(alive, below)), LONGEST_WAIT)
