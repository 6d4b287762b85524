"""The limits of the system that make a fork fail, in words for the log and for `tracker doctor`."""

import errno
import resource
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_THREADS_MAX = Path("/proc/sys/kernel/threads-max")
_UNLIMITED = "max"


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
    most, now = _read(_CGROUP / "pids.max"), _read(_CGROUP / "pids.current")
    if most and most != _UNLIMITED:
        yield f"pids.max {most}, of which {now} are taken"
    if threads := _read(_THREADS_MAX):
        yield f"kernel.threads-max {threads}"


def _soft(limit: int) -> str:
    soft, _ = resource.getrlimit(limit)
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
