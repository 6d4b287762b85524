"""The executor: runs claimed operations in hosts, and hands on how each attempt ends.

The executor is part of the manager's process, and handlers run in other processes, the hosts. So a handler that
blocks, holds the interpreter lock or crashes cannot delay the heartbeat, and a host can be killed without an effect on
the attempts of other hosts.
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from functools import partial

import structlog

from tracker.domain import lifecycle
from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import canonical
from tracker.log import log_transition
from tracker.runtime import failpoints
from tracker.store.store import LEASE
from workers.attempt import Attempt, StopReason
from workers.completion import Completion, change_for
from workers.fork_server import ForkServer
from workers.frames import AttemptEnded, AttemptRefused, Message, ProgressReport
from workers.host import Death, Host, HostKind
from workers.loop_guard import LoopGuard
from workers.loop_turns import LoopWatch
from workers.outcome import Outcome, Stopped, Unusable
from workers.pool import Pool, PoolSize
from workers.tenant_slots import APART, TenantSlots

log = structlog.get_logger()

DEADLINE_INTERVAL = 0.1
"""Time between two checks of the deadlines, in seconds."""
MEMORY_CHECK_EVERY = 50
"""How many checks of the deadlines there are between two checks of the hosts' memory."""


class Executor:
    """Runs attempts. It calls `on_completion` once for each attempt.

    `kinds` says which kind of host each type needs, by the type's canonical name. Each operation of `apart_types` runs
    in a process of its own. `size` says how many hosts there are. `worker` is the worker's name, for the log.
    `block_limit` is the longest time that a coroutine may block the event loop of others, in seconds; 0 is no limit.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        kinds: Mapping[str, HostKind],
        size: PoolSize,
        *,
        worker: str,
        on_completion: Callable[[Completion], None],
        apart_types: Collection[str] = (),
        block_limit: float = 0.0,
    ) -> None:
        self._on_completion, self._worker, self._fork_server = on_completion, worker, fork_server
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
        self.rooms: Mapping[str, str] = {**kinds, **dict.fromkeys(apart_types, APART)}
        """Which room of a claim each type takes, by the type's canonical name."""
        watch = LoopWatch(fork_server.turns, block_limit)
        self.loop_guard = LoopGuard(watch, self.pool, self._attempts, self._run_type_apart)
        self.tenants = TenantSlots(size)
        self._last_run_id = 0
        self._handing_back = False
        self.idle = asyncio.Event()
        """Set while no attempt runs."""
        self.idle.set()

    @property
    def running(self) -> Mapping[tuple[str, int], Attempt]:
        """The attempts that have not ended, by operation key and attempt number."""
        return self._running

    def begin(self, record: Record, claimed_at: float | None = None) -> None:
        """Run the handler of an operation that this worker has claimed.

        `claimed_at` is the `time.monotonic()` at which the claim was sent; None means just now. If the lease may have
        ended since then, for example because this process was suspended, the operation goes back to the queue.
        """
        log_transition(Transition.CLAIM, record, worker=self._worker)
        self._last_run_id += 1
        failpoints.reach(failpoints.AFTER_CLAIM)
        lease_until = (claimed_at or time.monotonic()) + LEASE
        apart = self.room_for(record) == APART
        refused = self._handing_back or time.monotonic() > lease_until
        if apart and not refused and self.pool.room().apart:
            self._begin_apart(record, lease_until)
            return
        among = self.tenants.hosts_for(record.tenant, self._queues)
        host = None if refused or apart else self.pool.acquire(self.kinds[canonical(record.type)], among)
        if host is None:  # while the claim was under way, the room or the lease went, or the worker began to hand back
            log.info("no_host", operation_id=record.id)
            self._on_completion(Completion(record, lifecycle.hand_back(record), Stopped({}), 0.0))
            return
        queue = self._queues[host] if host.kind is HostKind.FUNCTION else None
        attempt = Attempt(self._last_run_id, record, host, self._now(), lease_until, queued=bool(queue))
        if queue is not None:
            queue.append(attempt)
        self._add(attempt)
        failpoints.reach(failpoints.BEFORE_HANDLER)
        host.run(attempt.message())

    def room_for(self, record: Record) -> str:
        """Which room of a claim the operation takes: `apart`, or the kind of its handler."""
        return APART if record.apart else self.rooms[canonical(record.type)]

    @property
    def runs_alone(self) -> bool:
        """Whether an operation runs that is to have the worker for itself."""
        return len(self._attempts) == 1 and any(each.record.is_alone for each in self._attempts.values())

    def _run_type_apart(self, name: str) -> None:
        self.rooms = {**self.rooms, name: APART}

    def _add(self, attempt: Attempt) -> None:
        record = attempt.record
        self._attempts[attempt.run_id] = attempt
        self._running[record.key, record.attempt] = attempt
        self.tenants.take(attempt.run_id, record.tenant, self.room_for(record))
        self.idle.clear()

    def _begin_apart(self, record: Record, lease_until: float) -> None:
        """Start a host for this attempt alone. The handler begins when the host is ready."""
        attempt = Attempt(self._last_run_id, record, None, self._now(), lease_until)
        self._add(attempt)
        self.pool.start_apart(self.kinds[canonical(record.type)], partial(self._run_apart, attempt))

    def _run_apart(self, attempt: Attempt, host: Host | None) -> None:
        if attempt.run_id not in self._attempts:  # it was asked to stop meanwhile
            if host is not None:
                self.pool.release(host, 0.0)
        elif host is None or time.monotonic() > attempt.lease_until:
            self._request_stop(attempt, StopReason.DRAIN)
            if host is not None:
                self.pool.release(host, 0.0)
        else:
            attempt.host = host
            attempt.begin(self._now())
            failpoints.reach(failpoints.BEFORE_HANDLER)
            host.run(attempt.message())

    def stop(self, key: str, number: int, reason: StopReason) -> None:
        """Ask a handler to stop. An attempt that does not run here is ignored."""
        attempt = self._running.get((key, number))
        if attempt is not None:
            self._request_stop(attempt, reason)

    def hand_back(self) -> None:
        """Ask every handler to stop, so that its operation goes back to the queue uncharged.

        Operations that a claim brings after this go back at once.
        """
        self._handing_back = True
        for attempt in list(self._attempts.values()):
            self._request_stop(attempt, StopReason.DRAIN)

    def _request_stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Ask a handler to stop. An attempt whose host is not there yet ends at once."""
        attempt.request_stop(reason, self._now())
        if attempt.host is None:
            self._end(attempt, Stopped({}))

    def abandon(self) -> None:
        """End all attempts: the fork server died and its hosts with it. Attempts that had not begun are handed back."""
        for attempt in list(self._attempts.values()):
            self._note_loss(attempt)
            self._end(attempt, Stopped({}))

    @staticmethod
    def _note_loss(attempt: Attempt) -> None:
        began = attempt.host is not None and not attempt.queued
        attempt.stop_reason = attempt.stop_reason or (StopReason.LOST if began else StopReason.DRAIN)

    async def watch(self) -> None:
        """Enforce deadlines and graces, and the hosts' memory limit, until cancelled."""
        checks = 0
        while True:
            await asyncio.sleep(DEADLINE_INTERVAL)
            checks += 1
            if checks % MEMORY_CHECK_EVERY == 0:
                self.pool.check_memory()
            self.loop_guard.check()
            now = self._now()
            for attempt in [each for each in self._attempts.values() if each.due <= now]:
                if self.loop_guard.waits_for_another(attempt):
                    continue
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
        if host is None:
            return  # its host is not ready, and it has no deadline yet
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
        left = [each for each in self._attempts.values() if each.host is host]
        if left and all(each.due == math.inf for each in left):
            host.kill()

    def _on_message(self, message: Message) -> None:
        attempt = self._attempts.get(message.run_id)
        if attempt is None:  # the manager has ended it without its handler
            return
        if isinstance(message, AttemptEnded):
            failpoints.reach(failpoints.AFTER_HANDLER)
            self._end_on_host(attempt, message.outcome)
        elif isinstance(message, AttemptRefused):
            if attempt.stop_reason not in {StopReason.CANCEL, StopReason.FENCED}:  # its handler overran no deadline
                attempt.stop_reason = StopReason.DRAIN
            self._end_on_host(attempt, Stopped({}))
        elif isinstance(message, ProgressReport):
            attempt.unstored_progress = message

    def _on_death(self, host: Host, death: Death) -> None:
        """End the attempts of a host that died. Those that had not begun are handed back."""
        outcome = death.outcome()
        self._queues.pop(host, None)
        for attempt in [each for each in self._attempts.values() if each.host is host]:
            if attempt.queued:
                attempt.stop_reason = attempt.stop_reason or StopReason.DRAIN
            elif self._fork_server.lost.is_set():
                self._note_loss(attempt)
            self._end(attempt, outcome)

    def _end_on_host(self, attempt: Attempt, outcome: Outcome) -> None:
        """End an attempt whose host is alive, and may take another."""
        self._end(attempt, outcome)
        if attempt.host is not None:
            self.pool.release(attempt.host, self._now() - attempt.started)

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        record = attempt.record
        del self._attempts[attempt.run_id]
        self.tenants.give_back(attempt.run_id)
        self._begin_next(attempt)
        host = attempt.host
        if self._handing_back and host is not None and host.kind is HostKind.COROUTINE:
            self._kill_if_all_stuck(host)
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
        queue = self._queues.get(ended.host) if ended.host is not None else None
        if queue is None:
            return
        queue.remove(ended)
        if queue and queue[0].queued:
            queue[0].begin(self._now())
