"""What a killed run left behind: the children it recorded, and who listens on the private server's socket."""

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
"""Seconds an orphan has between SIGTERM and SIGKILL."""


class ChildRecords:
    """The children of a run, on disk, so that the next run can end those that outlived it.

    A pid counts together with its process's start, so that a stranger who got the same pid is left alone.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "children.json"
        self._children: dict[str, tuple[int, str | None]] = {}

    def record(self, name: str, pid: int) -> None:
        """Note that `name` runs as `pid` now."""
        self._children[name] = (pid, identity(pid))
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(self._children))
            draft.replace(self._path)
        except OSError as error:  # a full disk, say: no reason to stop what runs
            note(f"{self._path} cannot be written, the next start will not know {name}: {error.strerror}")

    def orphans(self) -> dict[str, int]:
        """Pid by name of the recorded children that still live."""
        try:
            recorded = json.loads(self._path.read_text())
            return {name: pid for name, (pid, born) in recorded.items() if born and identity(pid) == born}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(f"{self._path} is damaged: see that no process uses it, and delete it") from None


def end_orphans(server: PrivateServer, roster: ChildRecords) -> dict[str, int]:
    """End what an earlier, killed run left in this directory, and return it (pid by name).

    Children are known by the roster, the server also by who listens on its socket. Must be called under the
    directory's lock. Raises ConfigurationError naming the process that cannot be ended.
    """
    orphans = roster.orphans()
    listening = listener(server.socket)
    if listening is not None and listening not in orphans.values():
        orphans["valkey"] = listening
    _end(orphans)
    return orphans


def identity(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid; None when no such process runs."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, started = fields[0], f"{boot} {fields[19]}"  # proc(5): fields 3 and 22, started in ticks
    else:
        command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - fixed words
        state, _, started = answer.strip().partition(" ")
    return None if not state or state[0] in "ZX" else started.strip()


def _end(orphans: Mapping[str, int]) -> None:
    """SIGTERM, then SIGKILL after the grace, to each; all are gone on return."""
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
