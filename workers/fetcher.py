"""Taking operations, as many as there is room for, the moment there are any."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from secrets import token_hex

import structlog

from tracker.domain.record import Record
from tracker.domain.transitions import Transition
from tracker.domain.type_registry import canonical
from tracker.errors import Unavailable
from tracker.log import log_transition
from tracker.store.reconnect_backoff import ReconnectBackoff
from tracker.store.script_replies import ClaimReply, Room
from tracker.store.store import Store
from workers.executor import Executor
from workers.host import HostKind

log = structlog.get_logger()

LOOK_EVERY = 1.0
"""Seconds after which an idle worker looks at the queues though nobody woke it."""
LOOK_DEEP_EVERY = 0.25
"""Seconds between two looks past tickets of a kind that there is no room for."""
LEAST_AT_ONCE, MOST_AT_ONCE = 16, 50
"""Operations of a kind that one claim takes at most: while Redis takes the next, these are begun.

Where few wait, small claims keep everybody at work; where many do, it is the large ones that cost little.
"""
SHARE = 4
"""Of what waits, one in so many is taken at once, between these two."""
ANSWER_WITHIN = 5.0
"""Seconds that a stopping worker waits for the answer of a claim that is under way."""
SOONEST = 0.01
"""Seconds between two looks at most, however soon a gate opens."""


class Fetcher:
    """Claims until it is stopped, or has claimed `most`.

    `wake` makes it look now: there are operations, or there is room. `idle` is called whenever it claimed nothing.
    """

    def __init__(
        self, store: Store, executor: Executor, *, worker: str, idle: Callable[[], None], most: int | None
    ) -> None:
        self._store, self._executor, self._worker, self._idle = store, executor, worker, idle
        self._nonce, self._batch = token_hex(4), 0
        self._suspended = False
        self._stopping = False
        self.unanswered = False
        """Whether the latest claim may have taken operations that this worker does not know of."""
        self._stopped_at = 0.0
        self._asked: asyncio.Task[ClaimReply] | None = None
        self._deep_at, self._look_in = -LOOK_DEEP_EVERY, LOOK_EVERY
        self._most, self._turn_of_functions = most, False
        self._at_once = LEAST_AT_ONCE
        self.claimed = 0
        self.wake = executor.room

    def stop(self) -> None:
        """Claim no more. A claim that is under way is waited for: what it brings is ours."""
        self._stopping = True
        self._stopped_at = asyncio.get_running_loop().time()
        self.wake.set()

    async def run(self) -> None:
        """Claim until stopped; pauses while Redis is away, however long."""
        outage = ReconnectBackoff()
        while not self._stopping or self._asked is not None or self.unanswered:
            self.wake.clear()
            try:
                more = await self._claim()
                outage.over()
            except Unavailable as error:
                if self._stopping and asyncio.get_running_loop().time() - self._stopped_at > ANSWER_WITHIN:
                    log.warning(
                        "claim_unanswered", advice="what it took, if anything, runs again when its lease is over"
                    )
                    return
                if not outage:
                    log.warning("store_away", redis=self._store.address, reason=str(error.__cause__ or error))
                await outage.wait()
                continue
            except Exception:
                log.exception("claim_failed")
                more = self.unanswered = False
            if not more and not self._stopping:
                timer = asyncio.get_running_loop().call_later(self._look_in, self.wake.set)
                try:
                    await self.wake.wait()
                finally:
                    timer.cancel()

    async def _claim(self) -> bool:
        """Take what there is room for; return whether there may be more.

        While one answer is worked on, Redis is asked for the next already.
        """
        asked, self._asked = self._asked or self._ask(self._room(), again=self.unanswered), None
        if asked is None:  # no room: that says nothing of the queues
            if not self._executor.kinds or (self._most is not None and self.claimed >= self._most):
                self._idle()
            return False
        self.unanswered = True
        claims = await asked
        self._batch += 1
        self.unanswered = False
        self.claimed += len(claims.started)
        self._at_once = max(LEAST_AT_ONCE, min(MOST_AT_ONCE, claims.waiting // SHARE))
        if claims.started and not self._stopping:
            self._asked = self._ask(self._room(claims.started))
            await asyncio.sleep(0)  # it is on its way
        self._take(claims)
        more = claims.more or bool(claims.started)
        if not more and not claims.left:
            self._idle()
        return more

    def _room(self, coming: Sequence[Record] = ()) -> Room:
        """What there is room for beside those that are coming."""
        coroutines, functions = self._executor.pool.room()
        kinds = Counter(self._executor.kinds[canonical(record.type)] for record in coming)
        coroutines, functions = coroutines - kinds[HostKind.COROUTINE], functions - kinds[HostKind.FUNCTION]
        if self._most is not None:  # one by one, and the kinds in turn: nobody knows what is next in the queue
            most = int(self.claimed < self._most)
            self._turn_of_functions = not self._turn_of_functions
            turn = self._turn_of_functions and functions > 0
            coroutines, functions = (0, most) if turn else (min(coroutines, most), 0)
        coroutines, functions = (max(0, min(room, self._at_once)) for room in (coroutines, functions))
        return Room(coroutines, functions, self._executor.kinds)

    def _ask(self, room: Room, *, again: bool = False) -> "asyncio.Task[ClaimReply] | None":
        """Ask for operations. The batch's name stays the same until it is answered: a repeat brings the same."""
        if self._stopping:  # only what an unanswered claim has taken already
            room = Room(0, 0, room.kinds)
        if not again and not room.coroutines and not room.functions:
            return None
        now = asyncio.get_running_loop().time()
        deep = now - self._deep_at >= LOOK_DEEP_EVERY
        if deep:
            self._deep_at = now
        batch = f"{self._nonce}.{self._batch}"
        return asyncio.create_task(self._store.claim(self._worker, room, batch=batch, turn=self.claimed, deep=deep))

    def _take(self, claims: ClaimReply) -> None:
        self._notice(claims)
        tell(claims, worker=self._worker)
        soon = LOOK_DEEP_EVERY if claims.left else LOOK_EVERY
        self._look_in = soon if claims.opens is None else min(soon, max(claims.opens, SOONEST))
        for record in claims.started:
            self._executor.begin(record)

    def _notice(self, claims: ClaimReply) -> None:
        if claims.suspended != self._suspended:
            self._suspended = claims.suspended
            log.warning("worker_suspended" if claims.suspended else "worker_resumed", by="rq")


def tell(claims: ClaimReply, *, worker: str) -> None:
    """Log which tickets of a claim began no attempt, and why."""
    for record in claims.parked:
        log_transition(Transition.PARK, record, worker=worker, blocker=record.blocker)
    for word, job_id in claims.refused:
        log.info("ticket_refused", job_id=job_id, reason=word)
