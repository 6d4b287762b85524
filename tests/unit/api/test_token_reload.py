"""Tokens that are read again while the API runs."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from tracker.api import token_reload
from tracker.api.auth import Callers, hash_token, open_callers
from tracker.api.token_lines import FileState, text_and_state
from tracker.api.token_reload import TokenReloader
from tracker.config import Settings
from tracker.errors import ConfigurationError


def line(token: str, name: str = "") -> str:
    return f"{name or token}:blue:{hash_token(token)}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of tokens, which has those of ann and bob."""
    path = tmp_path / "tokens"
    path.write_text(line("ann") + line("bob"))
    return path


@pytest.fixture(autouse=True)
def _many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_reload, "POLL_INTERVAL", 0.01)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


class Reloading:
    def __init__(self, callers: Callers, asked: asyncio.Event) -> None:
        self.callers, self.asked = callers, asked

    def knows(self, token: str) -> bool:
        return self.callers.find(f"Bearer {token}") is not None

    async def comes_to_know(self, *tokens: str) -> None:
        """Wait until these tokens are known, and no other of ann, bob and eve."""

        async def known() -> bool:
            return {token for token in ("ann", "bob", "eve") if self.knows(token)} == set(tokens)

        await eventually(known)


@asynccontextmanager
async def reloading(path: Path, *, tokens: str = "", auth: Any = "tokens") -> AsyncIterator[Reloading]:
    settings = Settings(tokens=tokens, tokens_file=path, auth=auth)
    callers, asked = open_callers(settings), asyncio.Event()
    task = asyncio.create_task(TokenReloader(settings, callers, asked).run())
    try:
        yield Reloading(callers, asked)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def logged(logs: list[Any], event: str, number: int = 1) -> list[Any]:
    """Wait for so many lines of an event."""

    async def there() -> list[Any] | None:
        found = [entry for entry in logs if entry["event"] == event]
        return found if len(found) >= number else None

    return await eventually(there)


async def some_looks(path: Path, logs: list[Any]) -> None:
    """Wait until the file has been looked at some more times: until a change of it was noticed."""
    before = len([entry for entry in logs if entry["event"] == "tokens_not_reloaded"])
    rewrite(path, "malformed")
    await logged(logs, "tokens_not_reloaded", before + 1)


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def allow(path: Path, mode: int) -> None:
    path.chmod(mode)


def replace_by_rename(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def remove_and_write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def keep_size_and_time(path: Path, text: str) -> None:
    """As a program does that copies the times of the file that it copies."""
    before = path.stat()
    path.write_text(text.ljust(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("write", [rewrite, replace_by_rename, remove_and_write, keep_size_and_time])
async def test_a_token_that_is_removed_from_the_file_is_refused(
    file: Path, write: Callable[[Path, str], None], logs: list[Any]
) -> None:
    async with reloading(file) as api:
        await api.comes_to_know("ann", "bob")
        write(file, line("bob") + line("eve"))
        await api.comes_to_know("bob", "eve")
        [found] = await logged(logs, "tokens_reloaded")
    assert found == {
        "event": "tokens_reloaded",
        "log_level": "info",
        "file": str(file),
        "callers": 2,
        "added": 1,
        "removed": 1,
    }


async def test_the_links_of_kubernetes_are_followed(tmp_path: Path) -> None:
    """A mounted secret is `tokens` → `..data/tokens`, and `..data` → a directory of each version."""
    for version, text in (("..1", line("ann")), ("..2", line("bob"))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tokens").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    async with reloading(tmp_path / "tokens") as api:
        await api.comes_to_know("ann")
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await api.comes_to_know("bob")


async def test_a_file_that_was_changed_between_the_start_and_the_first_look_is_read(file: Path) -> None:
    settings = Settings(tokens="", tokens_file=file, auth="tokens")
    callers = open_callers(settings)
    rewrite(file, line("bob"))
    task = asyncio.create_task(TokenReloader(settings, callers, asyncio.Event()).run())
    try:
        await Reloading(callers, asyncio.Event()).comes_to_know("bob")
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_on_request_the_file_is_read_at_once(
    file: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_reload, "POLL_INTERVAL", 3600)
    async with reloading(file) as api:
        rewrite(file, line("bob"))
        api.asked.set()
        await api.comes_to_know("bob")
        api.asked.set()
        last = (await logged(logs, "tokens_reloaded", 2))[-1]
    assert (last["added"], last["removed"]) == (0, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line("bob") + "eve:blue:" + "SECRET" * 9, "line 2 is not of the form"),
        (line("bob") + line("bob", "eve"), "line 2 gives eve the token of bob"),
        (line("bob")[:-9], "line 1 is not of the form"),
        ("", "is empty"),
        (" \n\n", "is empty"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_named_once(
    file: Path, text: str, reason: str, logs: list[Any]
) -> None:
    async with reloading(file) as api:
        await api.comes_to_know("ann", "bob")
        rewrite(file, text)
        [found] = await logged(logs, "tokens_not_reloaded")
        await api.comes_to_know("ann", "bob")
        await some_looks(file, logs)
        assert reason in found["reason"]
        assert str(file) in found["reason"]
        assert found["log_level"] == "warning"
        rewrite(file, line("eve"))
        await api.comes_to_know("eve")
    assert len([entry for entry in logs if entry["event"] == "tokens_not_reloaded"]) == 2
    assert "SECRET" not in str(logs)
    assert hash_token("bob") not in str(logs)


async def test_a_file_that_is_missing_for_a_while_changes_nothing(file: Path, logs: list[Any]) -> None:
    async with reloading(file) as api:
        await api.comes_to_know("ann", "bob")
        remove(file)
        [found] = await logged(logs, "tokens_not_reloaded")
        assert "No such file" in found["reason"]
        assert api.knows("ann")
        rewrite(file, line("bob"))
        await api.comes_to_know("bob")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_what_is_no_file_changes_nothing(file: Path, logs: list[Any], make: Callable[[Path], None]) -> None:
    async with reloading(file) as api:
        remove(file)
        make(file)
        [found] = await logged(logs, "tokens_not_reloaded")
        assert "regular file" in found["reason"] or "directory" in found["reason"]
        assert api.knows("ann")


async def test_bytes_that_are_no_text_are_named_by_position(file: Path, logs: list[Any]) -> None:
    async with reloading(file):
        write_bytes(file, b"#ok\n\xff")
        [found] = await logged(logs, "tokens_not_reloaded")
    assert found["reason"].endswith("byte 4 is not UTF-8")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_that_becomes_readable_is_read(file: Path, logs: list[Any]) -> None:
    async with reloading(file) as api:
        replace_by_rename(file, line("bob"))
        allow(file, 0)
        await logged(logs, "tokens_not_reloaded")
        allow(file, 0o600)
        await api.comes_to_know("bob")


async def test_all_tokens_of_the_file_can_be_removed(file: Path) -> None:
    async with reloading(file, tokens=line("eve")) as api:
        await api.comes_to_know("ann", "bob", "eve")
        rewrite(file, "# nobody\n")
        await api.comes_to_know("eve")


async def test_a_file_that_is_written_slowly_is_read_when_it_is_whole(
    file: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes between any two looks, until all of it is there. Cut off at any line, it would remove callers."""
    lines = [line("ann"), line("bob"), line("eve")]
    looks = 0
    of = FileState.of

    def write_between_looks(path: Path) -> FileState:
        nonlocal looks
        if looks < len(lines):
            with file.open("a" if looks else "w") as writer:
                writer.write(lines[looks])
        looks += 1
        return of(path)

    async with reloading(file) as api:
        await api.comes_to_know("ann", "bob")
        monkeypatch.setattr(FileState, "of", write_between_looks)
        await api.comes_to_know("ann", "bob", "eve")
        reloads = [entry for entry in logs if "reloaded" in entry["event"]]
    assert [(entry["added"], entry["removed"]) for entry in reloads] == [(1, 0)]


def test_a_file_that_is_written_while_it_is_read_does_not_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([FileState(size=1), FileState(size=2)])
    monkeypatch.setattr(FileState, "of_open", lambda _: next(states))
    assert text_and_state(file) is None


async def test_a_pipe_is_read_at_the_start_only(logs: list[Any]) -> None:
    """As in `TRACKER_TOKENS_FILE=<(vault …)` of a shell: it is empty once it was read."""
    reading, writing = os.pipe()
    try:
        os.write(writing, line("ann").encode())
        os.close(writing)
        async with reloading(Path(f"/dev/fd/{reading}")) as api:
            api.asked.set()
            [found] = await logged(logs, "tokens_not_reloaded")
            assert api.knows("ann")
    finally:
        os.close(reading)
    assert "regular file" in found["reason"]


async def test_without_a_file_a_request_to_reload_is_answered_in_the_log(logs: list[Any]) -> None:
    settings = Settings(auth="none", host="127.0.0.1", tokens_file=None)
    asked = asyncio.Event()
    asked.set()
    task = asyncio.create_task(TokenReloader(settings, open_callers(settings), asked).run())
    try:
        await logged(logs, "tokens_not_reloaded")
    finally:
        task.cancel()
        await asyncio.wait({task})


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokens cannot be read: No such file"):
        text_and_state(tmp_path / "tokens")
