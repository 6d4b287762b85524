"""Processes and threads that the system refuses: trying again, and the limits in words for the log and `doctor`."""

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Time before each further try of `patiently`, in seconds. Their sum is shorter than a lease."""
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_THREADS_MAX = Path("/proc/sys/kernel/threads-max")
_UNLIMITED = "max"


def patiently(start: Callable[[], T], what: str) -> T:
    """Start a process or a thread; try again after DELAYS when the system refuses it.

    Raises the last OSError of a process, or the last RuntimeError of a thread.
    """
    for delay in DELAYS:
        try:
            return start()
        except (OSError, RuntimeError) as error:
            refused = error if isinstance(error, OSError) else OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            log.warning("fork_failed", kind=what, limit=limit_of(refused), again_in=delay)
            time.sleep(delay)
    return start()


def limit_of(error: OSError) -> str:
    """Why the system refused a process, with the limits that may be the cause and their values.

    fork(2) names them: for EAGAIN the processes of the user and of the control group, and the threads of the system;
    for ENOMEM the memory. EMFILE and ENFILE are about the socket of the process.
    """
    match error.errno:
        case errno.EAGAIN:
            causes = ", ".join(_process_limits())
        case errno.EMFILE:
            causes = f"RLIMIT_NOFILE {_soft(resource.RLIMIT_NOFILE)}"
        case errno.ENFILE:
            causes = "fs.file-max"
        case errno.ENOMEM:
            causes = "memory"
        case _:
            causes = ""
    text = error.strerror or str(error)
    return f"{text} ({causes})" if causes else text


def _process_limits() -> Iterator[str]:
    yield f"RLIMIT_NPROC {_soft(resource.RLIMIT_NPROC)}"
    for group in _control_groups():
        most = _read(group / "pids.max")
        if most and most != _UNLIMITED:
            yield f"pids.max {most}, of which {_read(group / 'pids.current')} are taken"
    if threads := _read(_THREADS_MAX):
        yield f"kernel.threads-max {threads}"


def _control_groups() -> Iterator[Path]:
    """The control group of this process, and those around it (cgroups(7), version 2)."""
    own = next((line[3:] for line in _read(_OWN_CGROUP).splitlines() if line.startswith("0::")), "/")
    group = _CGROUP / own.strip("/")
    while group.is_relative_to(_CGROUP):
        yield group
        group = group.parent


def _soft(limit: int) -> str:
    soft, _ = resource.getrlimit(limit)
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
