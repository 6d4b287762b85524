"""The attempts that run in one worker: from a claimed record to the one outcome that ends it.

The manager's process, which holds this, runs no handler code: handlers are in hosts. So nothing that a handler does
(blocking, holding the interpreter lock, crashing) starves the beats, and a host can be killed without losing what
the others do.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from tracker.domain import lifecycle
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import TypeRegistry, canonical
from tracker.log import log_transition
from tracker.runtime import failpoints
from workers import outcome as outcomes
from workers.attempt import Attempt, StopReason
from workers.completer import Completion
from workers.fork_server import ForkServer
from workers.host import Death, Host, HostKind
from workers.pool import Pool, PoolSize

log = structlog.get_logger()

TICK = 0.1
"""Seconds between two looks at deadlines."""
WEIGH_EVERY = 50
"""Ticks between two looks at the hosts' memory."""


class Executor:
    """Runs claimed attempts in hosts. `end` takes each attempt's ending; it is called once per attempt."""

    def __init__(
        self,
        fork_server: ForkServer,
        kinds: Mapping[str, HostKind],
        size: PoolSize,
        *,
        worker: str,
        end: Callable[[Completion], None],
    ) -> None:
        self._end, self._worker = end, worker
        self._now = asyncio.get_running_loop().time
        self.kinds = kinds
        self.room = asyncio.Event()
        """Set whenever there may be room for more."""
        self.pool = Pool(
            fork_server,
            size,
            set(kinds.values()),
            on_message=self._heard,
            on_death=self._host_died,
            on_room=self.room.set,
        )
        self._attempts: dict[int, Attempt] = {}
        self._current: dict[tuple[str, int], Attempt] = {}
        self._lines: defaultdict[Host, deque[Attempt]] = defaultdict(deque)
        """What each host of plain functions has to do, the current one first."""
        self._last_ref = 0
        self._handing_back = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def running(self) -> Mapping[tuple[str, int], Attempt]:
        """The attempts by key and number."""
        return self._current

    def begin(self, record: Record) -> None:
        """Run the handler of a record that was claimed for this worker."""
        log_transition(Transition.CLAIM, record, worker=self._worker)
        self._last_ref += 1
        failpoints.reach(failpoints.AFTER_CLAIM)
        host = None if self._handing_back else self.pool.take(self.kinds[canonical(record.type)])
        if host is None:  # its host died, or the worker gave up, between the claim's question and its answer
            log.info("no_host", operation_id=record.id)
            self._end(Completion(record, lifecycle.hand_back(record), outcomes.STOPPED, 0.0))
            return
        line = self._lines[host] if host.kind is HostKind.FUNCTION else None
        attempt = Attempt(self._last_ref, record, host, self._now(), waiting=bool(line))
        if line is not None:
            line.append(attempt)
        self._attempts[attempt.ref] = attempt
        self._current[record.key, record.attempt] = attempt
        self.idle.clear()
        failpoints.reach(failpoints.BEFORE_HANDLER)
        host.send(attempt.order())

    def stop(self, key: str, number: int, why: StopReason) -> None:
        """Ask a handler to stop; an attempt that is not running here is none of our business."""
        attempt = self._current.get((key, number))
        if attempt is not None:
            attempt.ask(why, self._now())

    def hand_back(self) -> None:
        """Ask every handler to stop, so that its operation can go back, uncharged; so does what comes later."""
        self._handing_back = True
        for attempt in list(self._attempts.values()):
            attempt.ask(StopReason.DRAIN, self._now())

    def abandon(self) -> None:
        """All hosts are gone through no fault of their handlers: hand everything back."""
        for attempt in list(self._attempts.values()):
            attempt.stop = attempt.stop or StopReason.DRAIN
            self._close(attempt, outcomes.STOPPED)

    async def watch(self) -> None:
        """Enforce deadlines, for ever: ask, and after the grace end the attempt whatever its handler does."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK)
            ticks += 1
            if ticks % WEIGH_EVERY == 0:
                self.pool.weigh()
            now = self._now()
            for attempt in [each for each in self._attempts.values() if each.ends_at <= now]:
                if attempt.stop is None:
                    attempt.ask(StopReason.DRAIN if attempt.waiting else StopReason.DEADLINE, now)
                elif attempt.waiting:
                    attempt.ends_at = math.inf  # the host says whether it took it back or began it
                else:
                    self._force(attempt)

    def _force(self, attempt: Attempt) -> None:
        """The grace is over: the attempt ends whatever its handler does.

        A function's host is killed, and its death ends the attempt. A coroutine cannot be killed by itself: the attempt
        ends without it, and its host takes no more operations.
        """
        log.warning("handler_stuck", operation_id=attempt.record.id, pid=attempt.host.pid, asked_for=attempt.stop)
        if attempt.host.kind is HostKind.FUNCTION:
            attempt.ends_at = math.inf
            attempt.host.kill()
        elif attempt.stop is StopReason.DRAIN:  # all of the host's attempts are handed back, each after its own grace
            attempt.ends_at = math.inf
            self._kill_if_stuck(attempt.host)
        else:
            self.pool.write_off(attempt.host)
            self._close(attempt, outcomes.STOPPED)

    def _kill_if_stuck(self, host: Host) -> None:
        """Kill a host of coroutines that all are to be handed back, and whose graces are all over."""
        if all(each.ends_at == math.inf for each in self._attempts.values() if each.host is host):
            host.kill()

    def _heard(self, message: Json) -> None:
        attempt = self._attempts.get(message["ref"])
        if attempt is None:
            return  # it ended without its handler
        if "outcome" not in message:
            attempt.progress, attempt.reported = message, False
            return
        failpoints.reach(failpoints.AFTER_HANDLER)
        self._close(attempt, message)
        self.pool.give_back(attempt.host, self._now() - attempt.began)

    def _host_died(self, host: Host, death: Death, kills_before: int) -> None:
        outcome = outcomes.died(death.code, death.peak_rss, asked=death.asked, kills_before=kills_before)
        self._lines.pop(host, None)  # nobody moves up in it any more
        for attempt in [each for each in self._attempts.values() if each.host is host]:
            if attempt.waiting:
                attempt.stop = attempt.stop or StopReason.DRAIN
            self._close(attempt, outcome)

    def _close(self, attempt: Attempt, outcome: Json) -> None:
        del self._attempts[attempt.ref]
        self._move_up(attempt)
        if self._handing_back and attempt.host.kind is HostKind.COROUTINE:
            self._kill_if_stuck(attempt.host)
        self._current.pop((attempt.record.key, attempt.record.attempt), None)
        if not self._attempts:
            self.idle.set()
        if attempt.stop is StopReason.FENCED:
            log.warning("outcome_refused", operation_id=attempt.record.id, attempt=attempt.record.attempt)
            return
        try:
            change = outcomes.decide(attempt, outcome)
        except Exception:
            log.exception("outcome_unusable", operation_id=attempt.record.id, attempt=attempt.record.attempt)
            outcome = outcomes.UNUSABLE
            change = outcomes.decide(replace(attempt, stop=None), outcome)
        self._end(Completion(attempt.record, change, outcome, self._now() - attempt.began))

    def _move_up(self, ended: Attempt) -> None:
        line = self._lines.get(ended.host)
        if line is None:
            return
        line.remove(ended)
        if line and line[0].waiting:
            line[0].begin(self._now())


def kinds_of(registry: TypeRegistry) -> dict[str, HostKind]:
    """Which kind of host each type's handler needs, by the type's canonical name."""
    return {
        canonical(name): HostKind.COROUTINE if entry.is_coroutine else HostKind.FUNCTION
        for name, entry in registry.items()
        if entry.handler is not None
    }
