"""Children that are kept alive, and their ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.processes import alive
from tests.support.waiting import LONGEST_WAIT, soon
from tracker.errors import ConfigurationError
from tracker.runtime.dev_valkey import until
from tracker.runtime.processes import Backoff, Child, Supervisor

TERM, KILL = signal.SIGTERM, signal.SIGKILL
AT_ONCE = [(0.0, KILL)]
SAY_PID = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
IGNORE_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")


def python(name: str, code: str) -> Child:
    return Child(name, (sys.executable, "-ISc", code))


class Lines:
    """Collects what children write."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def __call__(self, name: str, line: str) -> None:
        self._queue.put_nowait((name, line))

    async def next(self) -> tuple[str, str]:
        return await soon(self._queue.get())


@asynccontextmanager
async def keeping(children: Sequence[Child], **options: Any) -> AsyncIterator[tuple[Supervisor, Lines]]:
    lines = Lines()
    keeper = Supervisor(children, on_line=lines, **options)
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper, lines
    finally:
        await keeper.stop(AT_ONCE)
        await asyncio.wait({running})


async def deaths(number: int, children: Sequence[Child], **options: Any) -> list[dict[str, object]]:
    """The log lines of the first deaths of the children."""
    with capture_logs() as logs:
        async with keeping(children, **options):
            while sum(line["event"] == "child_died" for line in logs) < number:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.005)
    return [dict(line) for line in logs if line["event"] == "child_died"][:number]


async def test_a_child_that_is_killed_is_started_again() -> None:
    async with keeping([python("a", SAY_PID)], first_backoff=0.01) as (keeper, lines):
        first = int((await lines.next())[1])
        assert keeper.pids == {"a": first}
        os.kill(first, KILL)
        second = int((await lines.next())[1])
        assert second != first
        assert keeper.pids == {"a": second}


async def test_each_start_is_reported() -> None:
    told: list[tuple[str, int]] = []
    async with keeping([python("a", SAY_PID)], on_start=lambda *start: told.append(start)) as (_, lines):
        pid = int((await lines.next())[1])
    assert told == [("a", pid)]


async def test_one_child_can_be_started_before_the_others() -> None:
    lines = Lines()
    keeper = Supervisor([python("first", SAY_PID), python("second", SAY_PID)], on_line=lines)
    keeper.start("first")
    name, pid = await lines.next()
    assert (name, keeper.pids) == ("first", {"first": int(pid)})

    running = asyncio.create_task(keeper.run())
    assert (await lines.next())[0] == "second"
    await keeper.stop(AT_ONCE, only={"second"})
    assert keeper.pids == {"first": int(pid)}
    await keeper.stop(AT_ONCE)
    await running
    assert keeper.pids == {}


async def test_restarts_wait_twice_as_long_after_each_death_in_a_row() -> None:
    died = await deaths(3, [Child("a", ("/bin/sh", "-c", "exit 7"))], first_backoff=0.01)
    assert [line["restart_in"] for line in died] == [0.01, 0.02, 0.04]
    assert {line["exit_code"] for line in died} == {7}


async def test_a_child_that_lived_long_enough_begins_a_new_row() -> None:
    died = await deaths(3, [Child("a", ("/bin/sh", "-c", "exit 7"))], first_backoff=0.01, healthy_after=0.0)
    assert [line["restart_in"] for line in died] == [0.01, 0.01, 0.01]


@pytest.mark.parametrize(("death", "delay"), [(1, 0.1), (2, 0.2), (5, 1.6), (8, 10.0), (5000, 10.0)])
def test_the_wait_is_capped(death: int, delay: float) -> None:
    assert Backoff().delay(death) == pytest.approx(delay)


async def test_a_program_that_does_not_exist_is_tried_again() -> None:
    died = await deaths(2, [Child("a", ("/no/such/program",))], first_backoff=0.01)
    assert all("/no/such/program" in str(line["error"]) for line in died)


async def test_the_log_names_the_signal_that_killed_a_child() -> None:
    (died,) = await deaths(1, [Child("a", ("/bin/sh", "-c", "kill -SEGV $$"))])
    assert (died["child"], died["signal"]) == ("a", signal.strsignal(signal.SIGSEGV))


async def test_a_child_that_refuses_its_configuration_is_not_tried_again() -> None:
    keeper = Supervisor([Child("a", ("/bin/sh", "-c", "exit 2")), python("b", SAY_PID)], fatal_exit=2, on_line=Lines())
    with pytest.raises(ConfigurationError, match="a cannot start"):
        await soon(keeper.run())
    assert list(keeper.pids) == ["b"]
    await keeper.stop(AT_ONCE)


async def test_stop_sends_the_next_signal_to_a_child_that_ignores_the_first() -> None:
    async with keeping([python("deaf", IGNORE_TERM)]) as (keeper, lines):
        assert await lines.next() == ("deaf", "up")
        await soon(keeper.stop([(0, TERM), (0.05, TERM), (0.1, KILL)]))
        assert keeper.pids == {}


async def test_stop_returns_as_soon_as_all_are_gone() -> None:
    async with keeping([python("a", SAY_PID), python("b", SAY_PID)]) as (keeper, lines):
        await lines.next()
        await lines.next()
        await soon(keeper.stop([(0, TERM), (60, KILL)]))
        assert keeper.pids == {}


async def test_stop_does_not_wait_for_a_restart() -> None:
    with capture_logs() as logs:
        async with keeping([Child("a", ("/bin/false",))], first_backoff=60, backoff_cap=60) as (keeper, _):
            while not any(line["event"] == "child_died" for line in logs):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
            await soon(keeper.stop([(0, TERM)]))


async def test_lines_of_any_length_and_any_bytes_come_through() -> None:
    code = (
        r"import sys; out = sys.stdout.buffer; out.write(b'x' * 300_000 + b'\n\xff\r\nend'); out.flush(); sys.exit(1)"
    )
    async with keeping([python("a", code)], first_backoff=60) as (_, lines):
        pieces = [(await lines.next())[1]]
        while pieces[-1] != "end":
            pieces.append((await lines.next())[1])
    assert "".join(pieces) == "x" * 300_000 + "\ufffd" + "end"


async def test_a_grandchild_that_holds_the_output_does_not_hold_up_the_restart() -> None:
    code = "import os, sys, signal\npid = os.fork()\nif not pid: signal.pause()\nprint(pid, flush=True); os._exit(1)"
    async with keeping([python("a", code)], first_backoff=0.01) as (_, lines):
        grandchildren = [int((await lines.next())[1]) for _ in range(2)]
    for pid in grandchildren:
        os.kill(pid, KILL)


@on_linux
def test_children_die_with_a_parent_that_is_killed(wait_for_end: Callable[[int], None]) -> None:
    code = (
        "import asyncio, structlog, sys; from tracker.runtime.processes import *\n"
        # On standard output a line of the log could be cut in two by the child's line.
        "structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))\n"
        f"asyncio.run(Supervisor([Child('a', (sys.executable, '-ISc', {SAY_PID!r}))]).run())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            child = int(parent.stdout.readline())
        finally:
            parent.kill()
    wait_for_end(child)


@on_linux
def test_a_process_that_lost_its_parent_before_it_asked_dies_too() -> None:
    code = "from tracker.runtime.processes import die_with_parent\ndie_with_parent(parent=1)\nprint('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-KILL, "")


@pytest.fixture
def wait_for_end() -> Callable[[int], None]:
    def wait(pid: int) -> None:
        assert until(lambda: not alive(pid), LONGEST_WAIT)

    return wait


async def test_a_signal_goes_to_the_children_that_are_named() -> None:
    tell = (
        "import os, signal; signal.signal(signal.SIGHUP, lambda *_: os.write(1, b'again\\n'));"
        " os.write(1, b'up\\n');\nwhile True: signal.pause()"
    )
    async with keeping([python("a", tell), python("b", tell)]) as (keeper, lines):
        assert {await lines.next(), await lines.next()} == {("a", "up"), ("b", "up")}
        keeper.send(signal.SIGHUP, to={"b"})
        assert await lines.next() == ("b", "again")
        keeper.send(signal.SIGHUP)
        assert {await lines.next(), await lines.next()} == {("a", "again"), ("b", "again")}


async def test_a_hangup_does_not_kill_a_child_that_has_no_handler_yet() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('alive', flush=True); signal.pause()"
    async with keeping([python("a", code)]) as (_, lines):
        assert await lines.next() == ("a", "alive")
