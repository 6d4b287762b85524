"""Output of log lines, while nobody reads the log."""

import logging
import os
import pty
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from tracker import log
from tracker.config import Settings
from tracker.log_output import LogHandler, LogOutput

LINE = b"x" * 999 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that can be read without waiting: its end for reading, and its end for writing."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    for fd in (read, write):
        with suppress(OSError):
            os.close(fd)


def fill(fd: int) -> None:
    """Fill a pipe, without changing the mode of this descriptor."""
    own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(own, b"." * 512)
    os.close(own)


def read_all(fd: int) -> bytes:
    found = b""
    with suppress(BlockingIOError):
        while data := os.read(fd, 65536):
            found += data
    return found


def outputs(fd: int, drops: list[int], *, keep: int = 10_000) -> LogOutput:
    return LogOutput(fd, on_dropped=drops.append, keep=keep)


def test_a_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    outputs(pipe[1], []).write(LINE)
    assert read_all(pipe[0]) == LINE


def test_while_nobody_reads_lines_wait_and_further_lines_are_dropped_and_counted(pipe: tuple[int, int]) -> None:
    drops: list[int] = []
    output = outputs(pipe[1], drops)
    fill(pipe[1])
    lines = [b"%d\n" % number * 100 for number in range(1000)]
    for line in lines:
        output.write(line)
    assert not drops, "it is reported when the log is read again"
    found = b""
    while data := read_all(pipe[0]):
        found += data
        output.drain()
    kept = found.lstrip(b".")
    assert kept == b"".join(lines)[: len(kept)], "no line is torn or out of order"
    assert kept.endswith(b"\n")
    [dropped] = drops
    assert sum(kept.startswith(b"".join(lines[:count])) for count in range(1001)) - 1 + dropped == len(lines)


def test_a_line_of_which_the_reader_takes_a_part_is_completed(pipe: tuple[int, int]) -> None:
    output = outputs(pipe[1], [], keep=10**6)
    line = b"y" * 200_000 + b"\n"
    output.write(line)
    found = read_all(pipe[0])
    assert 0 < len(found) < len(line)
    while len(found) < len(line):
        output.drain()
        found += read_all(pipe[0])
    assert found == line


def test_other_processes_see_the_descriptor_in_the_mode_it_had(pipe: tuple[int, int]) -> None:
    outputs(pipe[1], []).write(LINE)
    assert os.get_blocking(pipe[1])


def test_a_terminal_that_is_stopped_does_not_stop_the_log() -> None:
    ours, theirs = pty.openpty()
    drops: list[int] = []
    output = outputs(theirs, drops)
    termios.tcflow(theirs, termios.TCOOFF)
    for _ in range(100):
        output.write(LINE)
    termios.tcflow(theirs, termios.TCOON)
    os.set_blocking(ours, False)
    while not drops:
        read_all(ours)
        output.drain()
    assert sum(drops) >= 80
    os.close(ours)
    os.close(theirs)


def test_a_descriptor_that_cannot_be_opened_again_is_written_only_when_it_is_ready(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    fill(pipe[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        output = outputs(pipe[1], [])
    output.write(LINE)
    assert set(read_all(pipe[0])) == {ord(".")}
    output.drain()
    assert read_all(pipe[0]) == LINE


def test_a_reader_that_is_gone_costs_lines_only(pipe: tuple[int, int]) -> None:
    drops: list[int] = []
    output = outputs(pipe[1], drops)
    os.close(pipe[0])
    for _ in range(3):
        output.write(LINE)
    assert sum(drops) == 2
    os.open(os.devnull, os.O_RDONLY)


def test_a_full_disk_costs_lines_only() -> None:
    with Path("/dev/full").open("w") as full:
        drops: list[int] = []
        output = outputs(full.fileno(), drops)
        output.write(LINE)
        output.write(LINE)
        assert sum(drops) == 1


def test_a_forked_process_does_not_write_the_lines_of_its_parent(pipe: tuple[int, int]) -> None:
    output = outputs(pipe[1], [])
    fill(pipe[1])
    output.write(LINE)
    child = os.fork()
    if child == 0:
        read_all(pipe[0])
        output.drain()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read_all(pipe[0]) == b""
    output.drain()
    assert read_all(pipe[0]) == LINE


def test_the_last_lines_are_written_when_the_process_ends_but_it_does_not_wait_for_ever(pipe: tuple[int, int]) -> None:
    output = outputs(pipe[1], [])
    fill(pipe[1])
    output.write(LINE)
    output.flush(0.01)
    assert set(read_all(pipe[0])) == {ord(".")}
    output.flush()
    assert read_all(pipe[0]) == LINE


@pytest.mark.usefixtures("logging_as_before")
def test_the_log_says_how_many_lines_it_has_dropped(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with os.fdopen(pipe[1], "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure(Settings(log_format="json"))
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, LogHandler)
    fill(pipe[1])
    for number in range(3000):
        structlog.get_logger().info("said", text="x" * 1000, number=number)
    text = read_all(pipe[0])
    while b"log_lines_dropped" not in text:
        handler.drain()
        text += read_all(pipe[0])
    lines = text.lstrip(b".").decode().splitlines()
    assert '"event": "log_lines_dropped"' in lines[-1]
    assert '"number": 0,' in lines[0]
