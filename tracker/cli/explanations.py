"""The sentences of `tracker why`: what an operation does or waits for, and what will happen next."""

from collections.abc import Callable, Iterator, Mapping

from tracker.cli import apart_explanations
from tracker.cli.formatting import counted, spell
from tracker.cli.reason import Reason, numbers_of, place_of, reason
from tracker.domain.operation import SECOND, Json, Micros
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import canonical
from tracker.maintenance.diagnosis import Diagnosis, Waiting
from tracker.store.worker_registry import LIVES_FOR, SILENT_AFTER


def explain(found: Diagnosis) -> list[Reason]:
    """The reasons for the state of the operation, the most important first."""
    record = found.record
    reasons = list(_BY_STAGE[record.stage](found))
    if record.stage in _WAITING:
        reasons += _no_workers(found)
        if record.start_by and not record.attempt:
            reasons.append(
                reason("start_by", f"Its first attempt must start {_in(found, record.start_by)}, or it fails.")
            )
    return reasons


def _left(found: Diagnosis, moment: Micros) -> float:
    return (moment - found.now) / SECOND


def _since(found: Diagnosis, moment: Micros) -> str:
    return spell((found.now - moment) / SECOND)


def _in(found: Diagnosis, moment: Micros) -> str:
    left = _left(found, moment)
    return f"in {spell(left)}" if left > 0 else f"now ({spell(-left)} late)"


# --- it waits


def _queued(found: Diagnosis) -> Iterator[Reason]:
    if found.suspect is not None:
        age = _since(found, found.suspect)
        yield reason("ticket_missed", f"Its ticket left the queue {age} ago and no worker claimed it: it gets another.")
        yield from _sweeper(found)
    elif found.queue is not None:
        yield _in_lane(found, found.queue)
    else:
        yield _misplaced("queued")
    yield from _able_workers(found)


def _in_lane(found: Diagnosis, queue: Waiting) -> Reason:
    lane = found.record.policy.priority
    text, facts = f"It is {place_of(queue)} in the {lane} lane.", {"lane": lane, **numbers_of(queue)}
    if found.tenants > 1:
        text = f"It is {place_of(queue)} of its tenant in the {lane} lane, where {found.tenants} tenants take turns."
        facts["tenants"] = found.tenants
    return reason("queue", text, **facts)


def _parked(found: Diagnosis) -> Iterator[Reason]:
    blockers: Mapping[str, Callable[[Diagnosis], Iterator[Reason]]] = {
        "serial": _in_serial_queue,
        "cap": _at_its_limits,
        "rate": _at_its_limits,
        "type": _without_worker,
        "apart": _without_room,
    }
    blocked = blockers.get(found.record.blocker)
    if blocked is None:
        yield _misplaced("parked")
    else:
        yield from blocked(found)


def _in_serial_queue(found: Diagnosis) -> Iterator[Reason]:
    if found.line is None or found.head is None or not found.line.before:
        yield _misplaced("parked")
        return
    head = found.head
    how = f"running on {head.worker}, for {_since(found, head.began)}" if head.stage is Stage.RUNNING else head.stage
    yield reason(
        "serial",
        f"The operations of its call run one at a time: it is {place_of(found.line)} in the serial queue, behind "
        f"{head.id}, which is {how}. `tracker why {head.id}` says more.",
        head={"id": head.id, "key": head.key, "type": head.type, "stage": str(head.stage)},
        **numbers_of(found.line),
    )


def _at_its_limits(found: Diagnosis) -> Iterator[Reason]:
    policy, type_name = found.record.policy, found.record.type
    if found.gate is None or found.opens is None:
        yield _misplaced("parked")
        return
    place = f"it is {place_of(found.gate)} among those that wait"
    taken = found.running + found.let_through
    if policy.concurrency and taken >= policy.concurrency:
        yield reason(
            "cap",
            f"At most {policy.concurrency} of {type_name} run at once, and {taken} run or are about to start; {place}.",
            limit=policy.concurrency,
            running=found.running,
            let_through=found.let_through,
            **numbers_of(found.gate),
        )
    elif policy.rate:
        yield reason(
            "rate",
            f"At most {policy.rate} of {type_name} start per {spell(policy.per)}; {place}. "
            f"The next may start {_in(found, found.opens)}.",
            limit=policy.rate,
            per=policy.per,
            opens_in=_left(found, found.opens),
            **numbers_of(found.gate),
        )
    else:
        yield reason(
            "gate",
            f"The limits of {type_name} allow another start; {place}, and is looked at {_in(found, found.opens)}.",
        )


def _without_worker(found: Diagnosis) -> Iterator[Reason]:
    yield reason("type", "It waits for a worker that has its type; the last worker that took it did not have it.")
    yield from _able_workers(found)


def _without_room(found: Diagnosis) -> Iterator[Reason]:
    yield from apart_explanations.without_room(found)
    yield from _able_workers(found)


def _no_workers(found: Diagnosis) -> Iterator[Reason]:
    """Reasons why no worker takes any operation at all."""
    if found.suspended:
        yield reason("suspended", "The queues are suspended: no worker takes an operation until `rq resume`.")
    if not found.workers and not found.stock_workers:
        yield reason("no_workers", "No worker is alive: run `tracker worker`.")


def _able_workers(found: Diagnosis) -> Iterator[Reason]:
    """Which workers could take the operation."""
    kind = found.record.type
    able = {name: about for name, about in found.workers.items() if canonical(kind) in about.get("types", ())}
    if able and all(_full(about) for about in able.values()) and not found.stock_workers:
        yield reason("workers_full", f"Every worker with its type is full: {_loads(able)}.", workers=sorted(able))
    elif able:
        yield reason("able_workers", f"Workers with its type: {_loads(able)}.", workers=sorted(able))
    elif found.stock_workers:
        stock = f"{counted(found.stock_workers, 'worker')} of RQ's own may have it, and do not say"
        yield reason("stock_workers", f"No worker says that it has {kind}; {stock}.")
    elif found.workers:
        names = ", ".join(sorted(found.workers))
        text = f"No live worker has {kind}. Check that its module is in TRACKER_TYPES of {names}."
        yield reason("no_worker_for_type", text, type=kind, workers=sorted(found.workers))


def _full(about: Json) -> bool:
    rooms = ("running", "concurrency", "processes")
    running, *room = (int(about.get(name, 0)) for name in (*rooms, "apart"))
    return about.keys() >= set(rooms) and running >= sum(room)


def _loads(workers: Mapping[str, Json]) -> str:
    return ", ".join(
        f"{name} (runs {about.get('running', '?')}, room for {about.get('concurrency', '?')} coroutines and "
        f"{about.get('processes', '?')} functions)"
        for name, about in sorted(workers.items())
    )


def _delayed(found: Diagnosis) -> Iterator[Reason]:
    record = found.record
    if found.due is None:
        yield _misplaced("delayed")
        return
    left = _left(found, found.due)
    when = f"it is due {_in(found, found.due)}"
    if record.vanished:
        word, text = "ticket_vanished", f"{counted(record.vanished, 'ticket')} left the queue unclaimed; {when}."
    elif record.attempt:
        word, text = "backoff", f"Attempt {record.attempt} {_ending(found)} ({_charged(found)}); {when}."
    else:
        word, text = "not_before", f"The create asked for a later start; {when}."
    yield reason(word, text, due_in=left)
    yield from apart_explanations.runs_apart(record)
    yield from _sweeper(found)


def _ending(found: Diagnosis) -> str:
    """How the latest attempt ended. A full history may lack its entry."""
    latest = [entry for entry in found.attempts if entry["attempt"] == found.record.attempt]
    if not latest:
        return "ended"
    return "was lost" if latest[-1].get("uncharged") else "failed"


def _sweeper(found: Diagnosis) -> Iterator[Reason]:
    if not found.sweeping:
        yield reason("no_sweeper", "No sweeper runs, so it stays as it is: run `tracker serve` or `tracker worker`.")


# --- it runs, or has ended


def _running(found: Diagnosis) -> Iterator[Reason]:
    record = found.record
    deadline = record.began + round(record.policy.run_within * SECOND)
    facts = {"worker": record.worker, "attempt": record.attempt, "deadline_in": _left(found, deadline)}
    text = f"Attempt {record.attempt} runs on {record.worker}, for {_since(found, record.began)}"
    yield reason("running", f"{text}; it must end {_in(found, deadline)}.", **facts)
    yield from apart_explanations.runs_apart(record)
    if record.cancel_requested:
        by = f" by {record.cancel_by}" if record.cancel_by else ""
        why = f" ({record.cancel_reason})" if record.cancel_reason else ""
        asked = _since(found, record.cancel_requested)
        yield reason("cancel_requested", f"A cancel was requested {asked} ago{by}{why}; its worker acts on it.")
    if found.lease is None:
        yield _misplaced("running")
    elif found.lease > found.now:
        left = _left(found, found.lease)
        yield reason("lease", f"Its lease runs out in {spell(left)} unless it is renewed.", lease_in=left)
    else:
        age = _since(found, found.lease)
        yield reason(
            "lease_ran_out", f"Its lease ran out {age} ago. The worker is lost, and the operation will run again."
        )
        yield from _sweeper(found)
    silent = found.workers.get(record.worker, {"silent": LIVES_FOR}).get("silent", 0)
    if record.rq and silent >= SILENT_AFTER:
        yield reason("worker_silent", f"{record.worker} has ended, or has not announced itself for {silent} s.")


def _ended(found: Diagnosis) -> Iterator[Reason]:
    record, result = found.record, found.record.result_info
    told = f": {result.code}/{result.subcode} {result.message}" if result else "."
    facts = {"code": result.code, "subcode": result.subcode} if result else {}
    after = f"after {counted(record.attempt, 'attempt')}" if record.attempt else "and never began"
    age = _since(found, record.completed)
    yield reason("ended", f"It ended {record.status} {age} ago, {after}{told}", status=str(record.status), **facts)
    if record.canceled:
        by = f" by {record.cancel_by}" if record.cancel_by else ""
        why = f": {record.cancel_reason}" if record.cancel_reason else "."
        yield reason("canceled", f"It was canceled{by}{why}")
    if record.stage is Stage.TOMBSTONE:
        word, text = ("deleted", "was deleted") if record.hidden else ("expired", "has expired")
        left = spell(_left(found, record.expires))
        yield reason(word, f"It {text}: only its id is left, which answers 410 for another {left}.")
    else:
        yield reason("kept", f"It is kept for another {spell(_left(found, record.expires))}.")


def _misplaced(stage: str) -> Reason:
    text = f"It is {stage}, but is not in the queue or set for that: run `tracker doctor --verify`."
    return reason("misplaced", text)


def _charged(found: Diagnosis) -> str:
    record = found.record
    return f"{record.charged} of {record.policy.attempts} attempts charged"


_WAITING = frozenset({Stage.QUEUED, Stage.PARKED, Stage.DELAYED})
_BY_STAGE: Mapping[Stage, Callable[[Diagnosis], Iterator[Reason]]] = {
    Stage.QUEUED: _queued,
    Stage.PARKED: _parked,
    Stage.DELAYED: _delayed,
    Stage.RUNNING: _running,
    Stage.COMPLETED: _ended,
    Stage.FAILED: _ended,
    Stage.TOMBSTONE: _ended,
}
