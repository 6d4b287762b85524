"""Functions that both kinds of host use around the call of a handler."""

import contextlib
import os
import sys
from collections.abc import Callable

from tracker import log_output
from workers.context import HandlerContext
from workers.frames import ProgressReport, RunAttempt


def handler_context(attempt: RunAttempt, send: Callable[[ProgressReport], None]) -> HandlerContext:
    """The context of an attempt, whose progress reports go to `send`."""
    return HandlerContext(
        operation_id=attempt.operation_id,
        call_id=attempt.call_id,
        attempt=attempt.attempt,
        key=attempt.key,
        report=lambda percent, detail: send(ProgressReport(attempt.run_id, percent, detail)),
    )


def exit_forked_child(host_pid: int) -> None:
    """End this process if it is not the host but a child that the handler forked.

    A host calls this when a handler has returned or raised. Otherwise the child would be a second host on the same
    socket.
    """
    if os.getpid() != host_pid:
        error = sys.exception()
        flush_streams()
        if isinstance(error, SystemExit) and isinstance(error.code, int | None):
            os._exit((error.code or 0) & 0xFF)
        os._exit(0 if error is None else 1)


def flush_streams() -> None:
    """Write what the log and the standard streams have buffered: a fork would write it twice, a kill would lose it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    log_output.drain_all()
