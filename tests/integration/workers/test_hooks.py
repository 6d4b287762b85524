"""Hooks of types' modules: they run in each process for handlers, at its start and before its end."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import hooked_types
from tests.support.executors import running_executor
from tests.support.handler_files import exists
from tests.support.records import make_record
from tests.support.waiting import eventually
from tracker import on_start, on_stop
from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Stage
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import TypeRegistry, separate_registry
from tracker.errors import ConfigurationError
from workers.fork_server import ForkServer
from workers.outcome import Succeeded
from workers.pool import PoolSize

WHOLE_LIFE = ["start 1", "start 2", "runs", "stop 1", "stop 2", "exit"]


@pytest.fixture
def types() -> TypeRegistry:
    with separate_registry():
        return load_types([hooked_types.__name__])


@pytest.fixture
def hooked_server(directory: Path, types: TypeRegistry) -> ForkServer:
    assert directory.is_dir()
    return ForkServer.fork(types)


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
    async with running_executor(hooked_server, types, PoolSize(1, 1)) as (executor, _):
        assert executor.pool.room()[0] == 1
        assert all(life[:2] == ["start 1", "start 2"] for life in lines(directory).values())


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
