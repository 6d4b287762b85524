"""Outcomes on their way into the record: in batches, as soon as something is ready, for as long as it takes."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import structlog

from tracker.domain import lifecycle
from tracker.domain.lifecycle import Change
from tracker.domain.operation import Json
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.log import log_transition
from tracker.runtime import failpoints
from tracker.runtime.background import beside
from tracker.store.reconnect_backoff import FIRST, ReconnectBackoff
from tracker.store.script_replies import ChangeReply
from tracker.store.store import Store, pack
from workers import outcome
from workers.spool import Spool

log = structlog.get_logger()

LIMIT = 100
"""Most outcomes in one batch."""
LATE = 1.0
"""Seconds that an outcome may wait in memory alone."""
GIVEN_UP_AFTER = 10.0
"""Seconds that an outcome may meet errors that are no outage: then it is no longer tried."""


@dataclass(slots=True, eq=False)
class Completion:
    """An attempt's end. Without a `change` it was canceled; how that reads is decided on the record as it is then."""

    record: Record
    change: Change | None
    outcome: Json
    took: float
    """Seconds from claim to outcome."""
    words: Sequence[str] = ()
    since: float = 0.0
    """When it was put, by the loop's clock."""
    kept: bool = False
    """Whether the spool has these words."""
    fails_since: float = 0.0
    """When it first met an error that is no outage, by itself; 0 is never."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was done since RQ's counters were told; `worked` in seconds."""

    succeeded: int = 0
    failed: int = 0
    worked: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.succeeded + other.succeeded, self.failed + other.failed, self.worked + other.worked)


class Completer:
    """Writes endings, each fenced by itself: one that is refused does not hurt its neighbours."""

    def __init__(self, store: Store, spool: Spool, *, worker: str) -> None:
        self._store, self._spool, self._worker = store, spool, worker
        self._waiting: dict[tuple[str, int], Completion] = {}
        self._doubtful: set[tuple[str, int]] = set()
        self._adopted: list[Sequence[str]] = []
        self._fresh = asyncio.Event()
        self.settled = asyncio.Event()
        self.settled.set()
        self._done_since = Counts()

    @property
    def waiting(self) -> Iterable[tuple[str, int]]:
        """Key and number of the attempts whose outcome is not written yet: they still need their leases."""
        return self._waiting

    def put(self, ending: Completion) -> None:
        """Take an ending; it will be written as long as this process lives, and from the spool after that."""
        ending.since = asyncio.get_running_loop().time()
        self._waiting[ending.record.key, ending.record.attempt] = ending
        self._fresh.set()
        self.settled.clear()

    def take_counts(self) -> Counts:
        """What was done since the last call."""
        done, self._done_since = self._done_since, Counts()
        return done

    def put_back(self, done: Counts) -> None:
        """It could not be told; tell it next time."""
        self._done_since += done

    async def run(self) -> None:
        """Write what comes, for ever; what cannot be written soon is spooled, and when this is ended, what is left."""
        self._adopted = self._spool.adopt()
        if self._adopted:
            self._fresh.set()
            self.settled.clear()
        try:
            async with beside(self._keep_late()):
                await self._write_for_ever()
        finally:
            self._keep(self._waiting.values())

    async def _write_for_ever(self) -> None:
        outage = ReconnectBackoff()
        while True:
            await self._fresh.wait()
            batch = list(islice(self._waiting.values(), 1 if self._doubtful else LIMIT))
            try:
                await self._write_adopted()
                await self._write(batch)
                outage.over()
            except Unavailable as error:
                if not outage:
                    log.warning("outcomes_wait", outcomes=len(self._waiting), reason=str(error.__cause__ or error))
                await outage.wait()
            except Exception:
                log.exception("commit_failed", outcomes=len(batch))
                await self._doubt(batch)
            if not self._adopted and not any(ending.kept for ending in self._waiting.values()):
                self._spool.clear()
            if not self._waiting and not self._adopted:
                self._fresh.clear()
                self.settled.set()

    async def _doubt(self, batch: Sequence[Completion]) -> None:
        """One of these cannot be written, and holds up the others: go on one by one until it is found.

        Given up, its lease runs out, and the sweeper takes over.
        """
        self._doubtful.update((ending.record.key, ending.record.attempt) for ending in batch)
        if len(batch) > 1:
            return
        for ending in batch:
            key = ending.record.key, ending.record.attempt
            now = asyncio.get_running_loop().time()
            ending.fails_since = ending.fails_since or now
            if now - ending.fails_since < GIVEN_UP_AFTER:
                self._waiting[key] = self._waiting.pop(key)  # the last in line now
            else:
                self._drop(ending)
                log.error("outcome_given_up", operation_id=ending.record.id, attempt=ending.record.attempt)
        await asyncio.sleep(FIRST)

    def _drop(self, ending: Completion) -> None:
        del self._waiting[ending.record.key, ending.record.attempt]
        self._doubtful.discard((ending.record.key, ending.record.attempt))

    async def _keep_late(self) -> None:
        while True:
            await asyncio.sleep(LATE)
            latest = asyncio.get_running_loop().time() - LATE
            self._keep(ending for ending in self._waiting.values() if ending.since < latest)

    def _keep(self, endings: Iterable[Completion]) -> None:
        """Spool these; those that end as canceled are left to the sweeper, which knows that too."""
        late = [ending for ending in endings if not ending.kept and ending.change is not None]
        _pack(late)
        if self._spool.keep(ending.words for ending in late):
            for ending in late:
                ending.kept = True

    async def _write_adopted(self) -> None:
        """Write what others have left; what is of no form that this version knows, the sweeper sees to."""
        while self._adopted:
            part = self._adopted[:LIMIT]
            try:
                words = await self._store.write(part)
            except Unavailable:
                raise
            except Exception:
                log.exception("spool_unusable", outcomes=len(part))
            else:
                for change, word in zip(part, words, strict=True):
                    log.info("spooled_outcome", change=change[0], answer=word)
            del self._adopted[:LIMIT]

    async def _write(self, batch: Sequence[Completion]) -> None:
        _pack(batch)
        await self._cancel([ending for ending in batch if ending.change is None])
        ready = [ending for ending in batch if ending.words]
        if not ready:
            return
        words = await self._store.write(ending.words for ending in ready)
        failpoints.reach(failpoints.MID_COMMIT)
        for ending, word in zip(ready, words, strict=True):
            self._done(ending, word)

    async def _cancel(self, canceled: Sequence[Completion]) -> None:
        """A cancel is decided on the record as it is now, which knows who asked and why."""
        if not canceled:
            return
        current = {record.key: record for record in await self._store.read(each.record.key for each in canceled)}
        for ending in canceled:
            now, seen = current.get(ending.record.key), ending.record
            if now is None or (now.stage, now.attempt) != (seen.stage, seen.attempt):
                self._done(ending, ChangeReply.CONFLICT)
                continue
            change = lifecycle.cancel(now, members=ending.outcome.get("members"))
            ending.change = outcome.with_evidence(change, ending.outcome)
            ending.words = pack(ending.change)

    def _done(self, ending: Completion, word: ChangeReply) -> None:
        record, change = ending.record, ending.change
        if (
            word is ChangeReply.CANCEL
        ):  # it came before the retry or the hand-back: end it as canceled, in the next batch
            ending.change, ending.words, ending.kept = None, (), False
            return
        self._drop(ending)
        if word is not ChangeReply.OK or change is None:
            log.warning("outcome_refused", operation_id=record.id, attempt=record.attempt, reason=word)
            return
        well = change.stage is Stage.COMPLETED
        self._done_since += Counts(int(well), int(not well), ending.took)
        result = change.fields.get("result_info")
        log_transition(
            change.transition,
            record,
            stage=change.stage,
            code=result.code if result else None,
            subcode=result.subcode if result else None,
            duration=round(ending.took, 3),
            worker=self._worker,
            **outcome.for_the_log(ending.outcome),
        )


def _pack(endings: Iterable[Completion]) -> None:
    for ending in endings:
        if ending.change is not None and not ending.words:
            ending.words = pack(ending.change)
