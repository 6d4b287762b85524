"""Orphans of a killed `tracker dev`: the child processes that it recorded, and the server on its socket."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tracker.cli.output import note
from tracker.errors import ConfigurationError
from tracker.runtime.dev_valkey import PrivateServer, listener, until

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for an orphan."""


class ChildRecords:
    """The child processes of a run, recorded on disk. The next run ends those that are still alive.

    A child is recorded by its pid and the start of its process. So a later process with the same pid is left alone.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "children.json"
        self._children: dict[str, tuple[int, str | None]] = {}

    def record(self, name: str, pid: int) -> None:
        """Record that the child `name` runs as `pid` now."""
        self._children[name] = (pid, identity(pid))
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(self._children))
            draft.replace(self._path)
        except OSError as error:  # for example a full disk; it is no reason to stop the children
            note(f"{self._path} cannot be written, the next start will not know {name}: {error.strerror}")

    def orphans(self) -> dict[str, int]:
        """The pids of the recorded children that are still alive, by name."""
        try:
            recorded = json.loads(self._path.read_text())
            return {name: pid for name, (pid, born) in recorded.items() if born and identity(pid) == born}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(f"{self._path} is damaged: see that no process uses it, and delete it") from None


def end_orphans(server: PrivateServer, records: ChildRecords) -> dict[str, int]:
    """End the orphans of an earlier run in this directory. Returns their pids by name.

    `records` names the children. The process that listens on the server's socket is an orphan, too. The caller must
    have the lock of the directory. Raises ConfigurationError, which names a process that cannot be ended.
    """
    orphans = records.orphans()
    listening = listener(server.socket)
    if listening is not None and listening not in orphans.values():
        orphans["valkey"] = listening
    _end(orphans)
    return orphans


def identity(pid: int) -> str | None:
    """A text that tells this process from a later one with the same pid. None when there is no such process."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, started = fields[0], f"{boot} {fields[19]}"  # proc(5): fields 3 and 22, started in ticks
    else:
        command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - fixed words
        state, _, started = output.strip().partition(" ")
    return None if not state or state[0] in "ZX" else started.strip()


def _end(orphans: Mapping[str, int]) -> None:
    """Send SIGTERM to each orphan, and SIGKILL after GRACE. All have ended on return."""
    born = {pid: identity(pid) for pid in orphans.values()}

    def living() -> list[int]:
        return [pid for pid, known in born.items() if known is not None and identity(pid) == known]

    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in living():
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise ConfigurationError(f"process {pid} of an earlier run may not be ended: end it first") from None
        if until(lambda: not living(), GRACE):
            return
    raise ConfigurationError(f"processes of an earlier run do not end: {', '.join(map(str, living()))}")
