"""The completer: writes the completions of attempts to Redis in batches, also after outages of Redis."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import structlog
from redis.exceptions import ResponseError

from tracker.domain import lifecycle
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.log import log_transition
from tracker.runtime import failpoints
from tracker.runtime.background import beside
from tracker.store.address_check import explain
from tracker.store.reconnect_backoff import ReconnectBackoff
from tracker.store.script_replies import ChangeReply
from tracker.store.store import Store, pack
from workers.completion import Completion, log_fields, with_evidence
from workers.spool import Spool

log = structlog.get_logger()

_T = TypeVar("_T")

MAX_BATCH = 100
"""How many completions one call of the script writes at most."""
SPOOL_AFTER = 1.0
"""The longest time that a completion waits in memory only, in seconds. Then it is spooled too."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The work of the worker since it last told RQ. `worked` is in seconds."""

    succeeded: int = 0
    failed: int = 0
    worked: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.succeeded + other.succeeded, self.failed + other.failed, self.worked + other.worked)


class Completer:
    """Writes completions. Each has a fence of its own, so its result does not depend on the others of its batch."""

    def __init__(self, store: Store, spool: Spool, *, worker: str) -> None:
        self._store, self._spool, self._worker = store, spool, worker
        self._waiting: dict[tuple[str, int], Completion] = {}
        self._adopted: list[Sequence[str]] = []
        """Packed changes that dead workers have left in the spool."""
        self._has_work = asyncio.Event()
        self.settled = asyncio.Event()
        """Set while nothing waits to be written."""
        self.settled.set()
        self._counts = Counts()

    @property
    def waiting(self) -> Iterable[tuple[str, int]]:
        """Operation key and number of the attempts that have ended and are not written. They need their leases."""
        return self._waiting

    def add(self, completion: Completion) -> None:
        """Take a completion. This worker writes it, or if it dies, the next worker with the same spool directory."""
        completion.added = asyncio.get_running_loop().time()
        self._waiting[_attempt_of(completion)] = completion
        self._has_work.set()
        self.settled.clear()

    def take_counts(self) -> Counts:
        """The work since the last call."""
        counts, self._counts = self._counts, Counts()
        return counts

    def return_counts(self, counts: Counts) -> None:
        """Add counts that could not be sent, for the next call of `take_counts`."""
        self._counts += counts

    async def run(self) -> None:
        """Write completions until cancelled. What is left then goes to the spool."""
        self._adopted = self._spool.adopt()
        if self._adopted:
            self._has_work.set()
            self.settled.clear()
        try:
            async with beside(self._spool_late()):
                await self._write_forever()
        finally:
            self._keep(self._waiting.values())

    async def _write_forever(self) -> None:
        outage = ReconnectBackoff()
        while True:
            await self._has_work.wait()
            try:
                await self._write_adopted()
                await self._write(list(islice(self._waiting.values(), MAX_BATCH)))
                outage.over()
            except Unavailable as error:
                if not outage:
                    log.warning("outcomes_wait", outcomes=len(self._waiting), reason=explain(error.__cause__ or error))
                await outage.wait()
            except Exception:
                log.exception("commit_failed", outcomes=len(self._waiting))
                await outage.wait()
            if not self._adopted and not any(completion.spooled for completion in self._waiting.values()):
                self._spool.clear()
            if not self._waiting and not self._adopted:
                self._has_work.clear()
                self.settled.set()

    async def _spool_late(self) -> None:
        while True:
            await asyncio.sleep(SPOOL_AFTER)
            latest = asyncio.get_running_loop().time() - SPOOL_AFTER
            self._keep(completion for completion in self._waiting.values() if completion.added < latest)

    def _keep(self, completions: Iterable[Completion]) -> None:
        """Spool completions. Canceled attempts are left out: the record is enough for the sweeper to end them."""
        unspooled = [each for each in completions if not each.spooled and each.change is not None]
        _pack(unspooled)
        if self._spool.keep(completion.packed for completion in unspooled):
            for completion in unspooled:
                completion.spooled = True

    async def _write_adopted(self) -> None:
        """Write what dead workers have left."""
        while self._adopted:
            await self._write_part_adopted(self._adopted[:MAX_BATCH])
            del self._adopted[:MAX_BATCH]

    async def _write_part_adopted(self, part: Sequence[Sequence[str]]) -> None:
        """Write adopted changes. If Redis cannot store one of them, find it by halves, and set it aside."""
        try:
            replies = await self._store.write(part)
        except ResponseError:
            if len(part) == 1:
                path = self._spool.set_aside(part[0])
                log.exception("spool_unusable", change=part[0][0], kept=path and str(path))
                return
            for half in _halves(part):
                await self._write_part_adopted(half)
        else:
            for change, reply in zip(part, replies, strict=True):
                log.info("spooled_outcome", change=change[0], answer=reply)

    async def _write(self, batch: Sequence[Completion]) -> None:
        """Write completions. If Redis cannot store one of them, find it by halves, and set it aside.

        The store has checked then that the server accepts writes. The lease of the attempt at fault runs out, and the
        sweeper takes over.
        """
        try:
            await self._write_together(batch)
        except ResponseError as error:
            if len(batch) > 1:
                for half in _halves(batch):
                    await self._write(half)
                return
            for completion in batch:
                self._set_aside(completion, error)

    def _set_aside(self, completion: Completion, error: Exception) -> None:
        record = completion.record
        path = self._spool.set_aside(completion.packed) if completion.packed else None
        self._remove(completion)
        log.error(
            "outcome_set_aside",
            operation_id=record.id,
            attempt=record.attempt,
            kept=path and str(path),
            exc_info=error,
        )

    async def _write_together(self, batch: Sequence[Completion]) -> None:
        batch = [completion for completion in batch if _attempt_of(completion) in self._waiting]
        _pack(batch)
        await self._decide_cancels([completion for completion in batch if completion.change is None])
        ready = [completion for completion in batch if completion.packed]
        if not ready:
            return
        replies = await self._store.write(completion.packed for completion in ready)
        failpoints.reach(failpoints.MID_COMMIT)
        for completion, reply in zip(ready, replies, strict=True):
            self._on_reply(completion, reply)

    async def _decide_cancels(self, canceled: Sequence[Completion]) -> None:
        """Decide the changes of canceled attempts on the present records, which say who asked, and why."""
        if not canceled:
            return
        records = await self._store.read(completion.record.key for completion in canceled)
        current = {record.key: record for record in records}
        for completion in canceled:
            now, seen = current.get(completion.record.key), completion.record
            if now is None or (now.stage, now.attempt) != (seen.stage, seen.attempt):
                self._on_reply(completion, ChangeReply.CONFLICT)
                continue
            change = lifecycle.cancel(now, members=completion.outcome.members)
            completion.change = with_evidence(change, completion.outcome)
            completion.packed = pack(completion.change)

    def _remove(self, completion: Completion) -> None:
        self._waiting.pop(_attempt_of(completion), None)

    def _on_reply(self, completion: Completion, reply: ChangeReply) -> None:
        record, change = completion.record, completion.change
        if reply is ChangeReply.CANCEL:  # a cancel came before this retry or hand-back: the next batch ends the attempt
            completion.change, completion.packed, completion.spooled = None, (), False
            return
        self._remove(completion)
        if reply is not ChangeReply.OK or change is None:
            log.warning("outcome_refused", operation_id=record.id, attempt=record.attempt, reason=reply)
            return
        succeeded = change.stage is Stage.COMPLETED
        self._counts += Counts(int(succeeded), int(not succeeded), completion.seconds)
        result = change.fields.get("result_info")
        log_transition(
            change.transition,
            record,
            stage=change.stage,
            code=result.code if result else None,
            subcode=result.subcode if result else None,
            duration=round(completion.seconds, 3),
            worker=self._worker,
            **log_fields(completion.outcome),
        )


def _halves(items: Sequence[_T]) -> tuple[Sequence[_T], Sequence[_T]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _attempt_of(completion: Completion) -> tuple[str, int]:
    return completion.record.key, completion.record.attempt


def _pack(completions: Iterable[Completion]) -> None:
    for completion in completions:
        if completion.change is not None and not completion.packed:
            completion.packed = pack(completion.change)
