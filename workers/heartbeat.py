"""What a worker tells Redis again and again: that its attempts live, how far they are, and that itself does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from tracker.domain import lifecycle
from tracker.errors import Unavailable
from tracker.store.script_replies import ChangeReply
from tracker.store.store import Store, pack
from workers.attempt import Attempt, StopReason
from workers.completer import Completer
from workers.executor import Executor

log = structlog.get_logger()

BEAT_EVERY = 2.0
"""Seconds between two beats: a fifth of the lease."""
PROGRESS_EVERY = 0.25
"""Seconds between two stored progress reports of an operation."""
AT_ONCE = 1000
"""Attempts in one round trip."""


class Heartbeat:
    """`announce` tells of the worker itself; `nudge` makes the next beat come now."""

    def __init__(
        self, store: Store, executor: Executor, completer: Completer, announce: Callable[[], Awaitable[None]]
    ) -> None:
        self._store, self._executor, self._completer, self._announce = store, executor, completer, announce
        self.nudge = asyncio.Event()

    async def run(self) -> None:
        """Beat for ever. An outage costs a beat, not the loop; the lease outlives four missed ones."""
        while True:
            try:
                await self._beat([*self._executor.running, *self._completer.waiting])
                await self._announce()
            except Unavailable as error:
                log.warning("beat_missed", attempts=len(self._executor.running), reason=str(error.__cause__ or error))
            except Exception:
                log.exception("beat_failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.nudge.wait(), BEAT_EVERY)
            self.nudge.clear()

    async def _beat(self, attempts: list[tuple[str, int]]) -> None:
        for start in range(0, len(attempts), AT_ONCE):
            part = attempts[start : start + AT_ONCE]
            for (key, number), word in zip(part, await self._store.beat(part), strict=True):
                if word == "CANCEL":
                    self._executor.stop(key, number, StopReason.CANCEL)
                elif word == "REFUSED":
                    self._executor.stop(key, number, StopReason.FENCED)

    async def store_progress(self) -> None:
        """Store the latest reports, for ever; what cannot be stored now is tried again, or overtaken."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            fresh = {key: attempt for key, attempt in self._executor.running.items() if not attempt.reported}
            if fresh:
                with suppress(Unavailable):
                    await self._write(fresh)

    async def _write(self, fresh: Mapping[tuple[str, int], Attempt]) -> None:
        changes = []
        for attempt in fresh.values():
            attempt.reported = True
            report = attempt.progress or {}
            changes.append(pack(lifecycle.progress(attempt.record, report["progress"], report["detail"])))
        try:
            words = await self._store.write(changes)
        except Unavailable:
            for attempt in fresh.values():
                attempt.reported = False
            raise
        for (key, number), word in zip(fresh, words, strict=True):
            if word is not ChangeReply.OK:
                self._executor.stop(key, number, StopReason.FENCED)
