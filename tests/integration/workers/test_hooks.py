"""Hooks of types' modules: they run in each process for handlers, at its start and before its end."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import hooked_types
from tests.support.executors import registry, running_executor, running_record
from tests.support.handler_files import began, exists
from tests.support.processes import ROOT
from tests.support.records import make_record
from tests.support.waiting import eventually, soon
from tracker import on_start, on_stop
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import TypeRegistry, separate_registry
from tracker.errors import ConfigurationError
from workers import fork_server, pool
from workers.executor import Executor
from workers.fork_server import ForkServer, HostNotStarted
from workers.handler_rooms import kinds_of
from workers.host import HostKind
from workers.outcome import Succeeded
from workers.pool import PoolSize

MANAGER = """
import asyncio, atexit
from tests.support import hooked_types
from tracker.domain.type_modules import load_types
from workers import fork_server, pool
from workers.executor import Executor
from workers.handler_rooms import kinds_of
from workers.fork_server import ForkServer, HostNotStarted
from workers.host import HostKind
from workers.host import HostKind

atexit.register(hooked_types.note, "exit of the manager")
server = ForkServer.fork(load_types(["tests.support.hooked_types"]))


async def main() -> None:
    await server.open()
    host = await server.start_host(HostKind.FUNCTION, print)
    host.finish()
    await host.death
    await server.close()


asyncio.run(main())
"""
WHOLE_LIFE = ["start 1", "start 2", "runs", "stop 1", "stop 2", "exit"]


@pytest.fixture
def types() -> TypeRegistry:
    with separate_registry():
        return load_types([hooked_types.__name__])


@pytest.fixture
def hooked_server(directory: Path, types: TypeRegistry) -> ForkServer:
    assert directory.is_dir()
    return ForkServer.fork(types)


@pytest.fixture
def types_of_both(types: TypeRegistry) -> TypeRegistry:
    """The hooked types, and those whose handlers wait for a file."""
    for entry in registry("waits").values():
        types.add(entry)
    return types


@pytest.fixture
def fork_server_of_both(directory: Path, types_of_both: TypeRegistry) -> ForkServer:
    assert directory.is_dir()
    return ForkServer.fork(types_of_both)


def lines(directory: Path) -> dict[str, list[str]]:
    """What each process has noted, in its order."""
    path, noted = directory / "hooks", dict[str, list[str]]()
    for line in path.read_text().splitlines() if path.exists() else ():
        pid, word = line.split(" ", 1)
        noted.setdefault(pid, []).append(word)
    return noted


def operation(kind: str) -> Record:
    return make_record(type=f"#hooked.{kind}", stage=Stage.RUNNING, attempt=1, ticket=1)


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_hooks_run_before_the_first_handler_and_after_the_last_and_then_exit_functions(
    hooked_server: ForkServer, directory: Path, types: TypeRegistry, kind: str
) -> None:
    record = operation(kind)
    async with running_executor(hooked_server, types, PoolSize(1, 1)) as (executor, completions):
        executor.begin(record)
        assert isinstance((await completions.of(record)).outcome, Succeeded)
    lives = lines(directory)
    assert WHOLE_LIFE in lives.values()
    assert len(lives) == 2, "a host of each kind"
    assert [life for life in lives.values() if "runs" not in life] == [[word for word in WHOLE_LIFE if word != "runs"]]


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_a_process_of_one_attempt_runs_all_hooks(
    hooked_server: ForkServer, directory: Path, types: TypeRegistry, kind: str
) -> None:
    record = operation(kind)._replace(apart=Apart.PROCESS)
    async with running_executor(hooked_server, types, PoolSize(0, 0, apart=1)) as (executor, completions):
        executor.begin(record)
        await completions.of(record)
    assert list(lines(directory).values()) == [WHOLE_LIFE]


async def test_a_process_whose_start_hook_raises_runs_no_handler_and_another_is_started(
    hooked_server: ForkServer, directory: Path, types: TypeRegistry
) -> None:
    (directory / "fails").touch()
    async with running_executor(hooked_server, types, PoolSize(1, 1)) as (executor, completions):
        assert executor.pool.room()[:2] == (0, 0)
        assert "exit code 1 at its start" in executor.pool.start_error
        (directory / "fails").unlink()

        async def has_room() -> bool:
            return all(executor.pool.room())

        await eventually(has_room)
        assert executor.pool.start_error == ""
        record = operation("function")
        executor.begin(record)
        assert isinstance((await completions.of(record)).outcome, Succeeded)
    assert WHOLE_LIFE in lines(directory).values()
    assert exists(directory / "hooks")


async def test_a_host_has_room_only_when_its_start_hooks_have_run(
    hooked_server: ForkServer, directory: Path, types: TypeRegistry
) -> None:
    (directory / "waits").touch()
    await hooked_server.open()
    executor = Executor(hooked_server, kinds_of(types), PoolSize(1, 1), worker="w", on_completion=print)
    opening = asyncio.create_task(executor.pool.open())
    try:

        async def have_begun() -> bool:
            return len(lines(directory)) == 2

        await eventually(have_begun)
        assert executor.pool.room()[:2] == (0, 0)
        (directory / "waits").unlink()
        await soon(opening)
        assert all(executor.pool.room())
        assert all(life[:2] == ["start 1", "start 2"] for life in lines(directory).values())
    finally:
        await executor.pool.close()
        await hooked_server.close()


async def test_a_host_whose_start_hook_hangs_is_killed_and_counts_as_not_started(
    hooked_server: ForkServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "START_TIMEOUT", 0.3)
    (directory / "waits").touch()
    await hooked_server.open()
    with pytest.raises(HostNotStarted):
        await soon(hooked_server.start_host(HostKind.FUNCTION, print))
    await hooked_server.close()


async def test_a_host_whose_stop_hook_hangs_is_killed_and_frees_its_room(
    hooked_server: ForkServer, directory: Path, types: TypeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "HOST_END_TIMEOUT", 0.3)
    (directory / "hangs").touch()
    record = operation("coroutine")._replace(apart=Apart.PROCESS)
    async with running_executor(hooked_server, types, PoolSize(0, 0, apart=1)) as (executor, completions):
        executor.begin(record)
        await completions.of(record)

        async def has_room() -> bool:
            return executor.pool.room().apart == 1

        await eventually(has_room)


async def test_hooks_run_at_the_end_of_a_worker_that_hands_its_operations_back(
    fork_server_of_both: ForkServer, directory: Path, types_of_both: TypeRegistry
) -> None:
    record = running_record("waits")
    async with running_executor(fork_server_of_both, types_of_both, PoolSize(2, 0)) as (executor, completions):
        executor.begin(record)
        await began(directory, record)
        executor.hand_back()
        await completions.of(record)
    [life] = lines(directory).values()
    assert life[-3:] == ["stop 1", "stop 2", "exit"]


def test_what_the_manager_has_registered_for_its_exit_does_not_run_in_hosts(directory: Path) -> None:
    program = directory / "manager.py"
    program.write_text(MANAGER)
    subprocess.run(
        [sys.executable, program], check=True, timeout=60, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    words = [word for life in lines(directory).values() for word in life]
    assert words.count("exit of the manager") == 1
    assert "exit" in words


def test_a_thread_that_lives_at_the_fork_is_named_in_a_warning(
    directory: Path, types: TypeRegistry, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert directory.is_dir()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="telemetry")
    thread.start()
    try:
        server = ForkServer.fork(types)
    finally:
        ended.set()
        thread.join()
    server._channel.close()
    server._reap()
    told = capsys.readouterr()
    assert "threads_at_fork" in told.out + told.err + caplog.text
    assert "telemetry" in told.out + told.err + caplog.text


@pytest.mark.parametrize("declare", [on_start, on_stop])
def test_a_hook_that_takes_arguments_is_refused(declare: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match="must take no arguments"):
        declare(lambda context: context)


def test_hooks_of_a_module_are_loaded_with_it_once_however_often(types: TypeRegistry) -> None:
    assert [hook.__name__ for hook in types.hooks.start] == ["start_first", "start_second"]
    load_types([hooked_types.__name__])
    with separate_registry():
        again = load_types([hooked_types.__name__, hooked_types.__name__])
    assert again.hooks.start == types.hooks.start
    assert [hook.__name__ for hook in again.hooks.stop] == ["stop_second", "stop_first"]
