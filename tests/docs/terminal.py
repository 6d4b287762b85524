"""Runs the commands of one page, as a reader with a few terminals in one directory does.

Ports that pages name (8080, 8000, 6379) may be in use here. Each is replaced by a free port, in commands, files and
expected output alike; `tracker dev` is given its port as an option, the other commands of `tracker` as TRACKER_URL and
TRACKER_PORT.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.pages import ROOT, Block
from tracker.runtime.dev_valkey import start_server

PATIENCE = 90.0
"""Seconds that a block has to end, or to become ready. Generous: other tests run beside this one."""
PORTS = ("8080", "8000", "6379")
STATE = ".state.sh"
BOX = ".block.sh"
_LOOK_EVERY = 0.05


class Terminals:
    """The page's directory, its main terminal, and a terminal for each block that keeps running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inner = directory / "page"
        self._inner.mkdir()
        self._stack = ExitStack()
        self._running: list[_Running] = []
        self._ports = {name: self._reserve() for name in PORTS}
        self._environment = self._clean_environment()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what still runs, latest first."""
        while self._running:
            self._running.pop().end()
        self._stack.close()

    def be_a_checkout(self) -> None:
        """Give the directory what a checkout has."""
        (self._inner / "examples").symlink_to(ROOT / "examples")

    def start_redis(self) -> None:
        """Run the server that a page expects at port 6379."""
        server = start_server(self._directory / "redis", port=self._ports["6379"])
        self._stack.callback(server.stop)

    def write(self, block: Block) -> None:
        """Write the file that a block shows."""
        path = self._inner / block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.rewritten(block.text) + "\n", encoding="utf-8")

    def rewritten(self, text: str) -> str:
        """The text with the ports that are really used."""
        for name, port in self._ports.items():
            text = re.sub(rf"\b{name}\b", str(port), text)
        return text

    def run(self, block: Block, *, exit_code: int = 0) -> str:
        """Run a block in the main terminal and return what it prints. Variables and directory stay for the next.

        Raises AssertionError when a command fails, or when the block does not end with the expected code.
        """
        state, box = self._directory / STATE, self._directory / BOX
        box.write_text(self._command(block))
        script = (
            f"[ -f {state} ] && . {state} 2>/dev/null\n"
            f"trap 'code=$?; {{ declare -p; echo cd \"$PWD\"; }} >{state}; exit $code' EXIT\n"
            f"set -e\n. {box}\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._inner, env=self._environment, text=True, timeout=PATIENCE, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == exit_code, (
            f"{block.place}: exit code {done.returncode} instead of {exit_code}\n{block.text}\n---\n{done.stdout}"
            f"{self._logs()}"
        )
        return done.stdout

    def keep_running(self, block: Block, expected: str) -> None:
        """Start a block in a terminal of its own; return when it has printed the expected lines, in their order."""
        log = self._directory / f"terminal-{len(list(self._directory.glob('terminal-*')))}.log"
        started = _Running(block, self._command(block), self._inner, self._environment, log)
        self._running.append(started)
        end = time.monotonic() + PATIENCE
        pattern = subsequence(self.rewritten(expected))
        while not pattern.search(squeezed(started.printed())):
            assert started.lives(), f"{block.place}: it ended\n{started.printed()}"
            assert time.monotonic() < end, f"{block.place}: not all of this came:\n{expected}\n---\n{started.printed()}"
            time.sleep(_LOOK_EVERY)

    def stop(self, place: str) -> None:
        """Ctrl-C in the latest terminal that keeps running."""
        assert self._running, f"{place}: nothing runs"
        self._running.pop().interrupt()

    def _command(self, block: Block) -> str:
        return re.sub(r"\btracker dev\b", f"tracker dev --port {self._ports['8080']}", self.rewritten(block.text))

    def _logs(self) -> str:
        return "".join(f"\n--- {each.block.place} prints:\n{each.printed()[-3000:]}" for each in self._running)

    def _reserve(self) -> int:
        """A port of 127.0.0.1 that nobody else is given while it is reserved. A server may still listen on it."""
        taken = self._stack.enter_context(socket.socket())
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # for servers that share the port
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])

    def _clean_environment(self) -> dict[str, str]:
        """What a new user's shell has, with this installation's commands first on the PATH."""
        ours = ("TRACKER_", "REDIS_URL", "PYTEST_", "RQ_", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "TRACKER_URL": f"http://127.0.0.1:{self._ports['8080']}",
            "TRACKER_PORT": str(self._ports["8080"]),
            "NO_PROXY": "127.0.0.1",
        }


class _Running:
    """A block that keeps running."""

    def __init__(self, block: Block, command: str, directory: Path, environment: dict[str, str], log: Path) -> None:
        self.block, self._log = block, log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
                preexec_fn=_listen_to_ctrl_c,  # noqa: PLW1509 - one call, no locks
            )  # fmt: skip

    def printed(self) -> str:
        return self._log.read_text(errors="replace")

    def lives(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to all processes of the terminal."""
        assert self.lives(), f"{self.block.place}: it ended by itself\n{self.printed()}"
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"{self.block.place}: Ctrl-C does not end it\n{self.printed()}") from None

    def end(self) -> None:
        """Stop it as a closed terminal does, and be sure that it is gone."""
        if self.lives():
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _listen_to_ctrl_c() -> None:
    """A test run that was started in the background ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def squeezed(text: str) -> str:
    """The text with single spaces, and none at the ends of its lines."""
    return "\n".join(re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines())


def whole(expected: str) -> re.Pattern[str]:
    """Matches an output that is the expected one, line by line."""
    lines = squeezed(expected).splitlines()
    return re.compile("".join(r"(?:.*\n)*?" if line == "…" else f"{_line(line)}\n" for line in lines))


def first_difference(expected: str, printed: str) -> str:
    """The first expected line at which the output is another; "" when the output is as expected."""
    lines = squeezed(expected).splitlines()
    text = f"{squeezed(printed)}\n"
    if whole(expected).fullmatch(text):
        return ""
    for count in range(1, len(lines) + 1):
        if not whole("\n".join(lines[:count])).match(text):
            return lines[count - 1]
    return "the end: more is printed"


def subsequence(expected: str) -> re.Pattern[str]:
    """Matches an output that has the expected lines in this order, among others."""
    lines = [_line(line) for line in squeezed(expected).splitlines() if line != "…"]
    return re.compile(r"^" + r"$(?:.*\n)+?^".join(lines) + r"$", re.MULTILINE)


def _line(line: str) -> str:
    return ".*".join(re.escape(part) for part in re.split(" ?… ?", line))
