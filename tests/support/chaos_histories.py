"""Invented histories for the checker of the chaos harness: operations, what was seen of them, and faults."""

from collections.abc import Iterable, Sequence
from typing import Any

from chaos.checker import check
from chaos.history import Attempt, Fault, History, Sight, Told

RESTARTS = [(0.0, "worker-1"), (3.0, "worker-1")]
"""A worker that was killed once, at 2."""


def saw(at: float, status: str, attempt: int = 1, **more: Any) -> Sight:
    """Seen so once, from asking a moment before `at`."""
    return Sight(**{"answered": at, "asked": at - 0.01, "http": 200, "status": status, "attempt": attempt, **more})


def done(at: float, attempt: int = 1, **more: Any) -> Sight:
    return saw(at, "Completed", attempt, **{"code": 200, "message": f"attempt {attempt}", "ended": "then", **more})


def failed(at: float, code: int, attempt: int = 1, subcode: int = 1) -> Sight:
    return saw(at, "Failed", attempt, code=code, subcode=subcode, ended="then")


def ran(number: int, start: float, end: float | None, how: str = "succeeded", **more: Any) -> Attempt:
    about = {"operation": "op", "worker": "worker-1", "pid": 7, **more}
    return Attempt(number=number, start=start, end=end, how=how if end is not None else "", **about)


def killed(at: float, kind: str = "kill worker", target: str = "worker-1", pid: int = 1, lasts: float = 0.0) -> Fault:
    return Fault(kind, target, pid, at, at + lasts)


def told(
    sights: Iterable[Sight] = (), attempts: Iterable[Attempt] = (), *, kind: str = "#chaos.slow", **more: Any
) -> Told:
    return Told(
        **{"id": "op", "type": kind, "call": "call", "accepted": 0.0, **more}, sights=[*sights], attempts=[*attempts]
    )


def run(*operations: Told, faults: Sequence[Fault] = (), **more: Any) -> History:
    return History({each.id: each for each in operations}, faults, **{"stopped": 100.0, **more})


def broken(history: History, **more: Any) -> set[str]:
    return {violation.rule for violation in check(history, **{"within": 60.0, **more})}
