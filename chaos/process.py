"""`python -m chaos.process [--clock-shift S] serve|worker …`: a tracker's process that ends itself at named steps.

Before the ordinary command line runs, the process's clock is shifted, and whenever the process comes to a step
(`tracker.runtime.failpoints`) of which there is a file in the directory `steps` of CHAOS_DIR, it removes that file
and kills itself: of all processes, the first that comes there does. CHAOS_PROCESS is its name in the journal.
"""

import argparse
import datetime as dt
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from chaos.journal import EVENTS, Journal

ORDERS = "steps"


def obey(orders: Path, journal: Journal, name: str, step: str) -> None:
    """Die here if it is ordered; an order is carried out once, as only one process succeeds in removing its file."""
    try:
        (orders / step).unlink()
    except FileNotFoundError:
        return
    journal.write(event="fault", kind=step, target=name, pid=os.getpid(), t=time.monotonic())
    os.kill(os.getpid(), signal.SIGKILL)


def shift_clock(seconds: float) -> None:
    """Let this process's wall clock be wrong by so many seconds, for all that is imported from now on."""
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
    setattr(dt, "datetime", Shifted)  # noqa: B010 - a plain assignment is an error to mypy, rightly


def main() -> None:
    """Prepare the process, then run the command line as if it had been called itself."""
    parser = argparse.ArgumentParser(prog="python -m chaos.process")
    parser.add_argument("--clock-shift", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.clock_shift:
        shift_clock(options.clock_shift)
    from tracker.cli.main import main as run  # noqa: PLC0415 - the same
    from tracker.runtime import failpoints  # noqa: PLC0415 - after the clock is shifted, as modules keep what they import

    directory = Path(os.environ["CHAOS_DIR"])
    failpoints.hook = partial(obey, directory / ORDERS, Journal(directory / EVENTS), os.environ["CHAOS_PROCESS"])
    sys.argv = ["tracker", *options.command]
    run()


if __name__ == "__main__":
    main()
