"""The sentences of `tracker why` on operations that run apart from others."""

from collections.abc import Iterator

from tracker.cli.formatting import counted
from tracker.cli.reason import Reason, numbers_of, place_of, reason
from tracker.domain.record import Apart, Record
from tracker.maintenance.diagnosis import Diagnosis


def without_room(found: Diagnosis) -> Iterator[Reason]:
    """Why a parked operation has to run apart, and what it waits for."""
    record = found.record
    facts = numbers_of(found.room) if found.room else {}
    place = f" It is {place_of(found.room)} among those of its type." if found.room else ""
    if record.apart is Apart.WORKER:
        text = f"It waits for a worker that runs nothing else, because {_deaths(record)}.{place}"
    else:
        text = f"It waits until a worker has room for one more process of its own, because {_why_apart(record)}.{place}"
    yield reason("apart", text, **facts)


def runs_apart(record: Record) -> Iterator[Reason]:
    """That an operation runs apart, and why."""
    if record.apart is Apart.NO:
        return
    where = "on a worker that runs nothing else" if record.apart is Apart.WORKER else "in a process of its own"
    text = f"It runs {where}, because {_why_apart(record)}."
    yield reason("runs_apart", text, suspected=record.suspected, lost_workers=record.lost_workers)


def _why_apart(record: Record) -> str:
    if record.suspected:
        return _deaths(record)
    if record.apart is Apart.NO:
        return "its worker runs each operation of its type in a process of its own"
    return "it has ended its process before, or its event loop was blocked"


def _deaths(record: Record) -> str:
    attempts = f"{counted(record.suspected, 'attempt')} of it died, and the cause is not known"
    return f"{attempts} ({counted(record.lost_workers, 'worker')} lost)" if record.lost_workers else attempts
