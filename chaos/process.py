"""The tracker's command line with a shifted clock and active failpoints.

Usage: `python -m chaos.process [--clock-shift S] serve|worker …`. An order to die at a failpoint
(`tracker.runtime.failpoints`) is a file with the failpoint's name in the directory `steps` of CHAOS_DIR. The first
process that reaches the failpoint removes the file and kills itself. CHAOS_PROCESS names the process in the journal.
"""

import argparse
import datetime as dt
import errno
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from chaos.history import FAIL_FORK
from chaos.journal import EVENTS, Journal

ORDERS = "steps"
"""Name of the directory with the orders."""


BEFORE_FORK = "before_fork"
"""The failpoint at which a fork fails. At every other failpoint a process dies."""


def obey(orders: Path, journal: Journal, name: str, failpoint: str) -> None:
    """Kill this process if there is an order for the failpoint. Only one process succeeds in removing the file.

    Raises OSError at BEFORE_FORK, where the fork is to fail.
    """
    try:
        (orders / failpoint).unlink()
    except FileNotFoundError:
        return
    kind = FAIL_FORK if failpoint == BEFORE_FORK else failpoint
    journal.write(event="fault", kind=kind, target=name, pid=os.getpid(), t=time.monotonic())
    if failpoint == BEFORE_FORK:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    os.kill(os.getpid(), signal.SIGKILL)


def shift_clock(seconds: float) -> None:
    """Shift this process's wall clock by `seconds`, for every module that is imported after this call."""
    real_time, real_time_ns, off = time.time, time.time_ns, timedelta(seconds=seconds)

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Shifted(datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + off

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.now(UTC).replace(tzinfo=None) + off

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + round(seconds * 1_000_000_000)
    setattr(dt, "datetime", Shifted)  # noqa: B010 - mypy rejects a plain assignment to a class


def main() -> None:
    """Shift the clock, set the hook of the failpoints, and run the command line of the tracker."""
    parser = argparse.ArgumentParser(prog="python -m chaos.process", description=__doc__)
    parser.add_argument(
        "--clock-shift", type=float, default=0.0, metavar="SECONDS", help="seconds added to the wall clock (0)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="arguments of `tracker`")
    options = parser.parse_args()
    if options.clock_shift:
        shift_clock(options.clock_shift)
    from tracker.cli.main import main as run  # noqa: PLC0415 - as in the next line
    from tracker.runtime import failpoints  # noqa: PLC0415 - modules keep the clock that they import

    directory = Path(os.environ["CHAOS_DIR"])
    failpoints.hook = partial(obey, directory / ORDERS, Journal(directory / EVENTS), os.environ["CHAOS_PROCESS"])
    sys.argv = ["tracker", *options.command]
    run()


if __name__ == "__main__":
    main()
