"""The operation types of examples/contoso."""

import asyncio
import hashlib
from collections.abc import Awaitable, Generator
from pathlib import Path
from typing import Any, cast

import pytest

from examples.contoso.operations import HashFile, WaitForPort, hash_file, wait_for_port
from tracker import Context, Rejected, Retry
from tracker.domain.type_modules import load_types


class Done:
    """What a plain function may drop and a coroutine awaits."""

    def __await__(self) -> Generator[None]:
        yield from ()


class Reports:
    """A context that keeps what is reported."""

    attempt = 3

    def __init__(self) -> None:
        self.percents: list[float | None] = []

    def progress(self, percent: float | None = None, detail: str = "") -> Awaitable[None]:  # noqa: ARG002 - as Context
        self.percents.append(percent)
        return Done()


def hashed(**members: Any) -> tuple[HashFile, list[float | None]]:
    operation, reports = HashFile.from_members(members, None), Reports()
    hash_file(operation, cast("Context", reports))
    return operation, reports.percents


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    monkeypatch.setenv("CONTOSO_FILES_DIR", str(directory))
    return directory


def test_one_round_is_the_files_own_hash(files: Path) -> None:
    (files / "a.bin").write_bytes(b"some bytes")
    operation, percents = hashed(path="a.bin")
    assert operation.digest == hashlib.sha256(b"some bytes").hexdigest()
    assert operation.size == 10
    assert percents == [100]


def test_rounds_hash_the_file_that_often_and_report_each_percent_once(files: Path) -> None:
    (files / "a.bin").write_bytes(b"abc")
    operation, percents = hashed(path="a.bin", rounds=400)
    assert operation.digest == hashlib.sha256(b"abc" * 400).hexdigest()
    assert percents == list(range(1, 101))


def test_an_empty_file_has_a_hash_too(files: Path) -> None:
    (files / "empty").touch()
    assert hashed(path="empty")[0].digest == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("name", ["missing", ".", "../outside", "/etc/hostname", "a\0b", "link"])
def test_a_file_that_is_missing_or_outside_is_rejected(files: Path, name: str) -> None:
    (files.parent / "outside").write_bytes(b"outside")
    (files / "link").symlink_to("../outside")
    with pytest.raises(Rejected, match="is not a file below"):
        hashed(path=name)


def waiting(port: int) -> tuple[WaitForPort, Context]:
    return WaitForPort.from_members({"port": port}, None), cast("Context", Reports())


async def test_a_port_that_answers_ends_the_wait() -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as listener:
        result = await wait_for_port(*waiting(listener.sockets[0].getsockname()[1]))
    assert result.code == 200
    assert result.message.endswith("answered at try 3.")


async def test_a_port_that_refuses_asks_for_another_attempt_in_a_second(unused_tcp_port: int) -> None:
    with pytest.raises(Retry) as retry:
        await wait_for_port(*waiting(unused_tcp_port))
    assert retry.value.after == 1


def test_the_examples_are_one_plain_function_and_one_coroutine() -> None:
    types = load_types(["examples.contoso.operations"])
    assert not types["#contoso.hashFileOperation"].is_coroutine
    assert types["#contoso.waitForPortOperation"].is_coroutine
