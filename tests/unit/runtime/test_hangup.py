"""What a process does at SIGHUP."""

import os
import pty
import signal
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually
from tracker.runtime import hangup


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hangup, "_terminals", [])
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


class Calls(list[str]):
    def listen(self) -> None:
        hangup.on_hangup(lambda: self.append("reload"), stop=lambda: self.append("stop"))

    async def wait_for(self, *calls: str) -> None:
        async def came() -> bool:
            return self == list(calls)

        await eventually(came)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a terminal that is the only standard stream. Closing it closes the terminal."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr(hangup, "_STANDARD_STREAMS", (theirs,))
    yield ours
    os.close(theirs)


async def test_each_signal_asks_to_reload() -> None:
    calls = Calls()
    hangup.ignore()
    calls.listen()
    for number in range(1, 4):
        hang_up()
        await calls.wait_for(*["reload"] * number)


async def test_a_process_that_is_starting_is_not_killed() -> None:
    calls = Calls()
    hangup.ignore()
    hang_up()
    calls.listen()
    hang_up()
    await calls.wait_for("reload")


async def test_a_terminal_that_is_open_changes_nothing(terminal: int) -> None:
    calls = Calls()
    hangup.ignore()
    calls.listen()
    hang_up()
    await calls.wait_for("reload")
    os.close(terminal)


async def test_the_end_of_the_terminal_stops_once(terminal: int) -> None:
    calls = Calls()
    hangup.ignore()
    calls.listen()
    os.close(terminal)
    hang_up()
    await calls.wait_for("stop")
    calls.append("later")
    hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    await calls.wait_for("stop", "later")


async def test_the_end_of_the_terminal_during_the_start_stops(terminal: int) -> None:
    calls = Calls()
    hangup.ignore()
    os.close(terminal)
    calls.listen()
    assert calls == ["stop"]
