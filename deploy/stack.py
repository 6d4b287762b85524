"""The Compose project under test: its commands, its containers, and what the engine knows of them."""

import json
import os
import secrets
import socket
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 300.0
"""The longest time in seconds of the whole test, and of each command."""

Json = dict[str, Any]


class CheckError(Exception):
    """A check that failed. The message names the check and the values that were found."""


def say(text: str) -> None:
    """Print a line and flush, so that a pipe shows the line at once."""
    print(text, flush=True)


class Stack:
    """The compose project under test."""

    def __init__(self) -> None:
        self.project = f"tracker-test-{secrets.token_hex(4)}"
        self.port = free_port()
        self.tokens = ""
        """Lines of tokens in place of the stack's own file; empty to start with nothing prepared."""

    @cached_property
    def _compose(self) -> list[str]:
        """The command: Compose v2 where the Docker client has the plugin, else docker-compose."""
        v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        command = ["docker", "compose"] if v2.returncode == 0 else ["docker-compose"]
        return [*command, "--project-name", self.project, "--file", str(ROOT / "docker-compose.yml")]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TRACKER_PORT": str(self.port), "TRACKER_TOKENS": self.tokens}

    def compose(self, *words: str) -> str:
        """Run one compose command and return its output. Raises CheckError when it fails."""
        return self._run([*self._compose, *words])

    def docker(self, *words: str) -> str:
        """Run one docker command and return its output. Raises CheckError when it fails."""
        return self._run(["docker", *words])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, text=True, check=False, timeout=LIMIT_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise CheckError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def refused(self, *words: str) -> str:
        """The output of a command in a container, which must fail. Raises CheckError when it succeeds."""
        try:
            done = self.compose("exec", "-T", *words)
        except CheckError as error:
            return str(error)
        raise CheckError(f"{' '.join(words)} was not refused: {done}")

    def containers(self, service: str) -> list[str]:
        """Names of the containers of a service, also of those that are stopped."""
        listed = self.docker(
            "ps", "--all", "--format", "{{.Names}}", "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        )  # fmt: skip
        return listed.split()

    def workers(self) -> list[str]:
        """Names of the worker containers, also of those that are stopped."""
        return self.containers("worker")

    def inspect(self, container: str) -> Json:
        """What the engine knows of a container."""
        found: list[Json] = json.loads(self.docker("inspect", container))
        return found[0]

    def last_logs(self) -> str:
        """The last 40 lines of each container's log, for the output of a test that failed."""
        try:
            return self.compose("logs", "--tail", "40")
        except (CheckError, subprocess.TimeoutExpired) as error:
            return f"no logs: {error}"

    def down(self) -> None:
        """Remove containers, volumes, network and the images that were built. Prints a line when that fails."""
        try:
            self.compose(
                "--profile", "operator", "down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "30"
            )
        except (CheckError, subprocess.TimeoutExpired) as error:
            say(f"! not everything could be removed: {error}")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
