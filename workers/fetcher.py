"""The fetcher: claims operations for the executor, as many as there is room for."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex

import structlog

from tracker.domain.record import Apart, Record
from tracker.domain.transitions import Transition
from tracker.errors import Unavailable
from tracker.log import log_transition
from tracker.store.address_check import explain
from tracker.store.reconnect_backoff import ReconnectBackoff
from tracker.store.script_replies import ClaimReply, Room
from tracker.store.store import Store
from workers.executor import Executor
from workers.host import HostKind
from workers.tenant_slots import APART

log = structlog.get_logger()

POLL_INTERVAL = 1.0
"""The longest time between two claims of an idle worker, in seconds. A queued ticket wakes it sooner."""
DEEP_CLAIM_INTERVAL = 0.25
"""The shortest time between two deep claims, in seconds.

A deep claim also looks behind tickets whose kind of handler the worker has no room for.
"""
MIN_POLL_INTERVAL = 0.01
"""The shortest wait before a claim that waits for a rate limit's next token, in seconds."""
MIN_BATCH, MAX_BATCH = 16, 50
"""The smallest and the largest batch of one claim, for each kind of handler.

Small batches keep Redis, the API and the worker busy at the same time while the queue is short. Large batches cost less
for each operation while the queue is long. Plain code would have one size: with 50 only, 64 clients kept 1.6 of two
cores busy, and with 16 to 50 they kept 1.75 busy (benchmarks/api.py, end to end).
"""
QUEUE_SHARE = 4
"""A claim asks for the queues' length divided by this, within the limits of a batch."""
_KINDS = (HostKind.COROUTINE, HostKind.FUNCTION, APART)
"""The kinds of room, in the order of `PoolRoom`."""
STOP_TIMEOUT = 5.0
"""The longest time that a stopping worker tries to get the reply to its last claim, in seconds."""


class Fetcher:
    """Claims operations until it is stopped, and gives them to the executor.

    `on_nothing_claimed` is called after each claim that took nothing. `max_operations` is how many operations are
    claimed at most; None means no limit. `weights` has the weights of tenants that are not 1. Set the event `wake` to
    have a claim sent now.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        *,
        worker: str,
        on_nothing_claimed: Callable[[], None],
        max_operations: int | None,
        weights: Mapping[str, int] | None = None,
    ) -> None:
        self._store, self._executor, self._worker = store, executor, worker
        self._on_nothing_claimed, self._max_operations = on_nothing_claimed, max_operations
        self._weights = weights or {}
        self._nonce, self._batch = token_hex(4), 0
        self._batch_size = MIN_BATCH
        self._suspended = False
        self._stopping, self._stopped_at = False, 0.0
        self._prefetch: asyncio.Task[ClaimReply] | None = None
        """The next claim, if it was sent before the reply to the present claim was processed."""
        self._last_deep_claim = -DEEP_CLAIM_INTERVAL
        self._last_claim = asyncio.get_running_loop().time()
        self._claimed_at = self._sent_at = time.monotonic()
        """When the claim was first sent whose reply is awaited, and when it was sent last."""
        self._poll_in = POLL_INTERVAL
        self._next_kind = 0
        """The position in `_KINDS` of the kind whose turn is next, when the worker must not claim more than one."""
        self.unanswered = False
        """Whether the latest claim got no reply. It may have taken operations that this worker does not know of."""
        self.claimed = 0
        """How many operations have been claimed."""
        self.wake = executor.room

    def stop(self) -> None:
        """Claim no more. `run` still waits for the reply to a claim that was sent, and begins its operations."""
        self._stopping = True
        self._stopped_at = asyncio.get_running_loop().time()
        self.wake.set()

    async def run(self) -> None:
        """Claim until stopped. While Redis is away, wait and claim again."""
        outage = ReconnectBackoff()
        while not self._stopping or self._prefetch is not None or self.unanswered:
            self.wake.clear()
            try:
                more = await self._claim()
                outage.over()
            except Unavailable as error:
                if self._stopping and asyncio.get_running_loop().time() - self._stopped_at > STOP_TIMEOUT:
                    log.warning(
                        "claim_unanswered",
                        advice="operations that the claim took, if any, run again when their leases run out",
                    )
                    return
                if not outage:
                    log.warning("store_away", redis=self._store.address, reason=explain(error.__cause__ or error))
                await outage.wait()
                continue
            except Exception:
                log.exception("claim_failed")
                more = self.unanswered = False
            if not more and not self._stopping:
                await self._wait_for_wake()

    async def _wait_for_wake(self) -> None:
        timer = asyncio.get_running_loop().call_later(self._poll_in, self.wake.set)
        try:
            await self.wake.wait()
        finally:
            timer.cancel()

    async def _claim(self) -> bool:
        """Claim what there is room for. Returns whether the queues may hold more.

        The next claim is sent before the operations of this claim begin. Plain code would begin the operations first.
        Redis would be idle meanwhile: for 0.6 of the 8 ms of a batch of 50 (benchmarks/workers.py: tracker, noop).
        """
        claim, self._prefetch = self._prefetch or self._send_claim(self._room(), repeat=self.unanswered), None
        if claim is None:  # there is no room, so nothing is known of the queues
            if not self._executor.kinds or self._is_limit_reached():
                self._on_nothing_claimed()
            return False
        self.unanswered = True
        reply = await claim
        claimed_at = self._claimed_at if reply.again else self._sent_at
        self.unanswered = False
        self._batch += 1
        self.claimed += len(reply.started)
        self._batch_size = max(MIN_BATCH, min(MAX_BATCH, reply.waiting // QUEUE_SHARE))
        if reply.started and not self._stopping:
            self._prefetch = self._send_claim(self._room(reply.started))
            await asyncio.sleep(0)  # lets the task send the claim
        self._process(reply, claimed_at)
        more = not reply.alone and (
            reply.more or bool(reply.started) or any(_waits_alone(each) for each in reply.parked)
        )
        if not more and not reply.left and not reply.alone:
            self._on_nothing_claimed()
        return more

    def _is_limit_reached(self) -> bool:
        return self._max_operations is not None and self.claimed >= self._max_operations

    def _room(self, starting: Sequence[Record] = ()) -> Room:
        """How many operations the next claim may take, when the operations of `starting` take room as well."""
        executor = self._executor
        rooms = [(record, executor.room_for(record)) for record in starting]
        taken = Counter(room for _, room in rooms)
        free: Mapping[str, int] = {
            kind: room - taken[kind] for kind, room in zip(_KINDS, executor.pool.room(), strict=True)
        }
        if executor.runs_alone or any(record.is_alone for record in starting):
            free = {}
        elif self._max_operations is not None:
            free = self._room_for_one(free)
        coroutines, functions, apart = (max(0, min(free.get(kind, 0), self._batch_size)) for kind in _KINDS)
        idle = not executor.running and not starting
        shares = executor.tenants.shares(self._weights, executor.pool, rooms)
        return Room(coroutines, functions, executor.rooms, apart, idle, shares)

    def _room_for_one(self, free: Mapping[str, int]) -> Mapping[str, int]:
        """Room for one operation, of each kind in turn: the worker must not claim more than its limit.

        A claim limits each kind by itself, and nobody knows which kind is next in the queue.
        """
        if self._is_limit_reached():
            return {}
        for _ in _KINDS:
            kind = _KINDS[self._next_kind]
            self._next_kind = (self._next_kind + 1) % len(_KINDS)
            if free[kind] > 0:
                return {kind: 1}
        return {}

    def _send_claim(self, room: Room, *, repeat: bool = False) -> "asyncio.Task[ClaimReply] | None":
        """Send a claim. Returns None when there is no room.

        With `repeat` the last claim, which got no reply, is sent again. It has the same batch name, so Redis answers
        with the operations that the last claim took. A stopping worker gives no room, so it claims no other operations.
        """
        if self._stopping:
            room = Room(0, 0, room.kinds)
        now = asyncio.get_running_loop().time()
        if not repeat and not self._is_worth_a_claim(room, now):
            return None
        self._last_claim = now
        self._sent_at = time.monotonic()
        if not repeat:  # a repeated claim may bring what the first one took
            self._claimed_at = self._sent_at
        deep = now - self._last_deep_claim >= DEEP_CLAIM_INTERVAL
        if deep:
            self._last_deep_claim = now
        batch = f"{self._nonce}.{self._batch}"
        return asyncio.create_task(self._store.claim(self._worker, room, batch=batch, turn=self.claimed, deep=deep))

    def _is_worth_a_claim(self, room: Room, now: float) -> bool:
        """Whether a claim may take something. Few operations run apart, so it is not sent often for them alone."""
        if room.coroutines or room.functions or (room.apart and APART in room.kinds.values()):
            return True
        return bool(room) and now - self._last_claim >= DEEP_CLAIM_INTERVAL

    def _process(self, reply: ClaimReply, claimed_at: float) -> None:
        if reply.suspended != self._suspended:
            self._suspended = reply.suspended
            log.warning("worker_suspended" if reply.suspended else "worker_resumed", by="rq")
        log_not_started(reply, worker=self._worker)
        poll_in = DEEP_CLAIM_INTERVAL if reply.left else POLL_INTERVAL
        self._poll_in = poll_in if reply.opens is None else min(poll_in, max(reply.opens, MIN_POLL_INTERVAL))
        for record in reply.started:
            self._executor.begin(record, claimed_at)


def _waits_alone(parked: Record) -> bool:
    """Whether the operation waits for a worker that runs nothing else. The next claim of such a worker begins it."""
    return parked.blocker == "apart" and parked.apart is Apart.WORKER


def log_not_started(reply: ClaimReply, *, worker: str) -> None:
    """Log which tickets of a claim began no attempt, and why."""
    for record in reply.parked:
        log_transition(Transition.PARK, record, worker=worker, blocker=record.blocker)
    for reason, job_id in reply.refused:
        log.info("ticket_refused", job_id=job_id, reason=reason)
