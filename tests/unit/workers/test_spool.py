"""The spool survives the death of its worker, and exactly one other worker takes it over."""

import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import structlog

from workers.spool import SUFFIX, Spool

FORK = multiprocessing.get_context("fork")
Words = list[str]


def outcome(number: int) -> Words:
    return [f"{number:032x} running 1 1", "", "members", json.dumps({"name": "é\n\ud800", "number": number})]


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


def test_without_a_directory_nothing_is_kept() -> None:
    spool = Spool(None)
    assert not spool.keep([outcome(1)])
    assert spool.adopt() == []
    spool.clear()


def test_what_is_kept_is_one_lines_worth_each_and_only_the_owners_to_read(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there"
    spool = Spool(directory)
    assert not spool.keep([])
    assert not directory.exists()
    assert spool.keep([outcome(1), outcome(2)])
    assert spool.keep([outcome(3)])
    [file] = files(directory)
    assert file.stat().st_mode & 0o777 == 0o600
    version, *lines = [json.loads(line) for line in file.read_text().splitlines() if line]
    assert version == {"version": 1}
    assert lines == [outcome(n) for n in (1, 2, 3)]
    spool.clear()
    assert files(directory) == []
    assert spool.keep([outcome(4)]), "the next outage"
    assert len(files(directory)) == 1
    spool.clear()


def test_a_file_that_cannot_be_read_now_is_left_for_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> bytes:
        raise OSError("input/output error")

    (tmp_path / f"dead{SUFFIX}").write_text(f"{json.dumps(outcome(1))}\n")
    spool = Spool(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", unreadable)
        assert spool.adopt() == []
    spool.clear()
    assert spool.adopt() == [outcome(1)]
    spool.clear()


def test_a_file_from_before_files_had_a_version_is_adopted(tmp_path: Path) -> None:
    (tmp_path / f"dead{SUFFIX}").write_text(f"\n{json.dumps(outcome(1))}\n\n{json.dumps(outcome(2))}\n")
    spool = Spool(tmp_path)
    assert spool.adopt() == [outcome(1), outcome(2)]
    spool.clear()
    assert files(tmp_path) == []


@pytest.mark.parametrize("header", [{"version": 2}, {"version": 0}, {"version": "1"}, {}])
def test_a_file_of_an_unknown_version_stays_as_it_is_and_is_logged_once(tmp_path: Path, header: dict[str, Any]) -> None:
    unknown, known = tmp_path / f"a{SUFFIX}", tmp_path / f"b{SUFFIX}"
    content = f"{json.dumps(header)}\n{json.dumps(outcome(1))}\n"
    unknown.write_text(content)
    known.write_text(f"{json.dumps({'version': 1})}\n{json.dumps(outcome(2))}\n")
    spool = Spool(tmp_path)
    with structlog.testing.capture_logs() as logged:
        assert spool.adopt() == [outcome(2)]
        spool.keep([outcome(3)])
        spool.clear()
    assert files(tmp_path) == [unknown]
    assert unknown.read_text() == content
    [line] = [line for line in logged if line["event"] == "spool_version_unknown"]
    assert (line["path"], line["version"]) == (str(unknown), header.get("version"))
    with structlog.testing.capture_logs() as logged:
        assert Spool(tmp_path).adopt() == []
    assert [line["event"] for line in logged] == ["spool_version_unknown"], "nobody holds it"


def in_a_process_that_dies(work: Callable[[], None]) -> None:
    """As a worker that is killed: the kernel lets go of its locks, and nobody else cleans up."""

    def run() -> None:
        work()
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=run)
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL


def leave(directory: Path, *outcomes: Words) -> None:
    in_a_process_that_dies(lambda: print(Spool(directory).keep(outcomes)))


def test_the_next_worker_adopts_what_a_killed_one_left(tmp_path: Path) -> None:
    leave(tmp_path, outcome(1), outcome(2))
    heir = Spool(tmp_path)
    assert heir.adopt() == [outcome(1), outcome(2)]
    assert len(files(tmp_path)) == 1, "until it is written, it stays on disk"
    heir.clear()
    assert files(tmp_path) == []


def test_what_an_heir_did_not_write_before_it_was_killed_too_goes_to_the_next(tmp_path: Path) -> None:
    leave(tmp_path, outcome(1))

    def inherit() -> None:
        heir = Spool(tmp_path)
        assert heir.adopt() == [outcome(1)]
        heir.keep([outcome(2)])

    in_a_process_that_dies(inherit)
    assert sorted(map(list, Spool(tmp_path).adopt())) == [outcome(1), outcome(2)]


def test_what_a_living_worker_holds_nobody_adopts(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep([outcome(1)])
    assert Spool(tmp_path).adopt() == []
    assert len(files(tmp_path)) == 1


def test_of_many_heirs_at_once_exactly_one_inherits(tmp_path: Path) -> None:
    leave(tmp_path, outcome(1))

    def inherit(gate: Any, answer: Connection, release: Any) -> None:
        gate.wait()
        answer.send(len(Spool(tmp_path).adopt()))
        release.wait()

    gate, release = FORK.Barrier(8), FORK.Event()
    pipes = [FORK.Pipe() for _ in range(8)]
    heirs = [FORK.Process(target=inherit, args=(gate, theirs, release)) for _, theirs in pipes]
    for heir in heirs:
        heir.start()
    adopted = [ours.recv() for ours, _ in pipes]
    release.set()
    for heir in heirs:
        heir.join(10)
    assert sorted(adopted) == [0] * 7 + [1]


@pytest.mark.parametrize("rest", [b"", b"\n", b'["cut off', b'{"no": "list"}\n', b"[1, 2]\n", b"\xff\xfe\n"])
def test_a_malformed_line_is_skipped(tmp_path: Path, rest: bytes) -> None:
    lines = b"".join(json.dumps(outcome(number)).encode() + b"\n" for number in (1, 2))
    (tmp_path / f"dead{SUFFIX}").write_bytes(lines + rest)
    assert Spool(tmp_path).adopt() == [outcome(1), outcome(2)]


def test_a_disk_that_is_full_costs_nothing_that_was_there_before_or_comes_after(tmp_path: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the limit is on every file
        spool = Spool(tmp_path)
        assert spool.keep([outcome(1)])
        room = files(tmp_path)[0].stat().st_size + 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        assert not spool.keep([outcome(2)])
        assert not spool.keep([outcome(2)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert spool.keep([outcome(2), outcome(3)])

    in_a_process_that_dies(work)
    assert Spool(tmp_path).adopt() == [outcome(1), outcome(2), outcome(3)]


def test_a_disk_that_is_full_from_the_start_leaves_no_file_behind(tmp_path: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the limit is on every file
        spool = Spool(tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, resource.RLIM_INFINITY))
        assert not spool.keep([outcome(1)])
        assert files(tmp_path) == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert spool.keep([outcome(1)])

    in_a_process_that_dies(work)
    assert Spool(tmp_path).adopt() == [outcome(1)]


def test_a_directory_that_cannot_be_made_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / "file")
    assert not spool.keep([outcome(1)])
    assert spool.adopt() == []
    spool.clear()


def test_a_worker_with_the_name_of_a_dead_one_inherits_too(tmp_path: Path) -> None:
    """`rq worker --name` may be the same each time; files do not go by it."""
    leave(tmp_path, outcome(1))
    again = Spool(tmp_path)
    assert again.keep([outcome(2)])
    assert again.adopt() == [outcome(1)]
    again.clear()
    assert files(tmp_path) == []
