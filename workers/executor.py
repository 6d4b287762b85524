"""The executor: runs claimed operations in hosts, and hands on how each attempt ends.

The executor is part of the manager's process, and handlers run in other processes, the hosts. So a handler that
blocks, holds the interpreter lock or crashes cannot delay the heartbeat, and a host can be killed without an effect on
the attempts of other hosts.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

import structlog

from tracker.domain import lifecycle
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import TypeRegistry, canonical
from tracker.log import log_transition
from tracker.runtime import failpoints
from workers.attempt import Attempt, StopReason
from workers.completion import Completion, change_for
from workers.fork_server import ForkServer
from workers.frames import AttemptEnded, Message, ProgressReport
from workers.host import Death, Host, HostKind
from workers.outcome import Outcome, Stopped, Unusable
from workers.pool import Pool, PoolSize

log = structlog.get_logger()

DEADLINE_INTERVAL = 0.1
"""Time between two checks of the deadlines, in seconds."""
MEMORY_CHECK_EVERY = 50
"""How many checks of the deadlines there are between two checks of the hosts' memory."""


class Executor:
    """Runs attempts. It calls `on_completion` once for each attempt.

    `kinds` says which kind of host each type needs, by the type's canonical name. `size` says how many hosts there are.
    `worker` is the worker's name, for the log.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        kinds: Mapping[str, HostKind],
        size: PoolSize,
        *,
        worker: str,
        on_completion: Callable[[Completion], None],
    ) -> None:
        self._on_completion, self._worker = on_completion, worker
        self._now = asyncio.get_running_loop().time
        self.kinds = kinds
        self.room = asyncio.Event()
        """Set when there may be room for more attempts."""
        self.pool = Pool(
            fork_server,
            size,
            set(kinds.values()),
            on_message=self._on_message,
            on_death=self._on_death,
            on_room=self.room.set,
        )
        self._attempts: dict[int, Attempt] = {}
        """The attempts that have not ended, by `run_id`."""
        self._running: dict[tuple[str, int], Attempt] = {}
        """The same attempts, by operation key and attempt number."""
        self._queues: defaultdict[Host, deque[Attempt]] = defaultdict(deque)
        """The attempts of each host of plain functions, in their order. The first of them runs, the others wait."""
        self._last_run_id = 0
        self._handing_back = False
        self.idle = asyncio.Event()
        """Set while no attempt runs."""
        self.idle.set()

    @property
    def running(self) -> Mapping[tuple[str, int], Attempt]:
        """The attempts that have not ended, by operation key and attempt number."""
        return self._running

    def begin(self, record: Record) -> None:
        """Run the handler of an operation that this worker has claimed."""
        log_transition(Transition.CLAIM, record, worker=self._worker)
        self._last_run_id += 1
        failpoints.reach(failpoints.AFTER_CLAIM)
        host = None if self._handing_back else self.pool.acquire(self.kinds[canonical(record.type)])
        if host is None:  # while the claim was under way, the host died or the worker began to hand back
            log.info("no_host", operation_id=record.id)
            self._on_completion(Completion(record, lifecycle.hand_back(record), Stopped({}), 0.0))
            return
        queue = self._queues[host] if host.kind is HostKind.FUNCTION else None
        attempt = Attempt(self._last_run_id, record, host, self._now(), queued=bool(queue))
        if queue is not None:
            queue.append(attempt)
        self._attempts[attempt.run_id] = attempt
        self._running[record.key, record.attempt] = attempt
        self.idle.clear()
        failpoints.reach(failpoints.BEFORE_HANDLER)
        host.run(attempt.message())

    def stop(self, key: str, number: int, reason: StopReason) -> None:
        """Ask a handler to stop. An attempt that does not run here is ignored."""
        attempt = self._running.get((key, number))
        if attempt is not None:
            attempt.request_stop(reason, self._now())

    def hand_back(self) -> None:
        """Ask every handler to stop, so that its operation goes back to the queue uncharged.

        Operations that a claim brings after this go back at once.
        """
        self._handing_back = True
        for attempt in list(self._attempts.values()):
            attempt.request_stop(StopReason.DRAIN, self._now())

    def abandon(self) -> None:
        """Hand back all attempts at once: the fork server died and its hosts with it, so no handler is the cause."""
        for attempt in list(self._attempts.values()):
            attempt.stop_reason = attempt.stop_reason or StopReason.DRAIN
            self._end(attempt, Stopped({}))

    async def watch(self) -> None:
        """Enforce deadlines and graces, and the hosts' memory limit, until cancelled."""
        checks = 0
        while True:
            await asyncio.sleep(DEADLINE_INTERVAL)
            checks += 1
            if checks % MEMORY_CHECK_EVERY == 0:
                self.pool.check_memory()
            now = self._now()
            for attempt in [each for each in self._attempts.values() if each.due <= now]:
                if attempt.stop_reason is None:
                    attempt.request_stop(StopReason.DRAIN if attempt.queued else StopReason.DEADLINE, now)
                elif attempt.queued:
                    attempt.due = math.inf  # the host tells whether it gave the attempt back or began it
                else:
                    self._force_end(attempt)

    def _force_end(self, attempt: Attempt) -> None:
        """End an attempt whose handler has not stopped within its grace.

        The host of a function is killed, and its death ends the attempt. A coroutine cannot be killed alone: its
        attempt ends while it still runs, and its host gets no more attempts.
        """
        host, reason = attempt.host, attempt.stop_reason
        log.warning("handler_stuck", operation_id=attempt.record.id, pid=host.pid, asked_for=reason)
        if host.kind is HostKind.FUNCTION:
            attempt.due = math.inf
            host.kill()
        elif reason is StopReason.DRAIN:  # every attempt of the host is handed back, after its own grace
            attempt.due = math.inf
            self._kill_if_all_stuck(host)
        else:
            self.pool.replace_stuck(host)
            self._end(attempt, Stopped({}))

    def _kill_if_all_stuck(self, host: Host) -> None:
        """Kill a host of coroutines if none of its attempts has grace left."""
        if all(each.due == math.inf for each in self._attempts.values() if each.host is host):
            host.kill()

    def _on_message(self, message: Message) -> None:
        attempt = self._attempts.get(message.run_id)
        if attempt is None:  # the manager has ended it without its handler
            return
        if isinstance(message, AttemptEnded):
            failpoints.reach(failpoints.AFTER_HANDLER)
            self._end(attempt, message.outcome)
            self.pool.release(attempt.host, self._now() - attempt.started)
        elif isinstance(message, ProgressReport):
            attempt.unstored_progress = message

    def _on_death(self, host: Host, death: Death) -> None:
        """End the attempts of a host that died. Those that had not begun are handed back."""
        outcome = death.outcome()
        self._queues.pop(host, None)
        for attempt in [each for each in self._attempts.values() if each.host is host]:
            if attempt.queued:
                attempt.stop_reason = attempt.stop_reason or StopReason.DRAIN
            self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        record = attempt.record
        del self._attempts[attempt.run_id]
        self._begin_next(attempt)
        if self._handing_back and attempt.host.kind is HostKind.COROUTINE:
            self._kill_if_all_stuck(attempt.host)
        self._running.pop((record.key, record.attempt), None)
        if not self._attempts:
            self.idle.set()
        if attempt.stop_reason is StopReason.FENCED:
            log.warning("outcome_refused", operation_id=record.id, attempt=record.attempt)
            return
        if isinstance(outcome, Unusable):
            log.error("outcome_unusable", operation_id=record.id, attempt=record.attempt, exc_info=outcome.error)
        seconds = self._now() - attempt.started
        self._on_completion(Completion(record, change_for(attempt, outcome), outcome, seconds))

    def _begin_next(self, ended: Attempt) -> None:
        """Note that the next function of the host begins."""
        queue = self._queues.get(ended.host)
        if queue is None:
            return
        queue.remove(ended)
        if queue and queue[0].queued:
            queue[0].begin(self._now())


def kinds_of(registry: TypeRegistry) -> dict[str, HostKind]:
    """Which kind of host each type's handler needs, by the type's canonical name."""
    return {
        canonical(name): HostKind.COROUTINE if entry.is_coroutine else HostKind.FUNCTION
        for name, entry in registry.items()
        if entry.handler is not None
    }
