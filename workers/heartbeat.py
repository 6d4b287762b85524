"""The heartbeat: renews the leases of a worker's attempts, announces the worker, and stores progress reports."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from tracker.domain import lifecycle
from tracker.errors import Unavailable
from tracker.store.address_check import explain
from tracker.store.script_replies import ChangeReply
from tracker.store.store import LEASE, Store, pack
from workers.attempt import Attempt, StopReason
from workers.completer import Completer
from workers.executor import Executor
from workers.frames import ProgressReport

log = structlog.get_logger()

BEAT_INTERVAL = 2.0
"""Time between two beats, in seconds: a fifth of the lease."""
PROGRESS_INTERVAL = 0.25
"""The shortest time between two stored progress reports of an operation, in seconds."""
MAX_BATCH = 1000
"""How many leases one round trip renews at most."""


class Heartbeat:
    """Beats for the attempts that an executor runs, and for those that a completer has not written yet.

    `announce` tells Redis that the worker itself lives. Set `beat_now` to make the next beat come at once.
    """

    def __init__(
        self, store: Store, executor: Executor, completer: Completer, announce: Callable[[], Awaitable[None]]
    ) -> None:
        self._store, self._executor, self._completer, self._announce = store, executor, completer, announce
        self.beat_now = asyncio.Event()

    async def run(self) -> None:
        """Beat until cancelled. A lease lasts for five beats, so a short outage of Redis ends no attempt."""
        while True:
            try:
                await self._beat([*self._executor.running, *self._completer.waiting])
                await self._announce()
            except Unavailable as error:
                log.warning(
                    "beat_missed", attempts=len(self._executor.running), reason=explain(error.__cause__ or error)
                )
            except Exception:
                log.exception("beat_failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.beat_now.wait(), BEAT_INTERVAL)
            self.beat_now.clear()

    async def _beat(self, attempts: list[tuple[str, int]]) -> None:
        """Renew leases. The replies also say which attempts a client wants canceled, and which are fenced."""
        for start in range(0, len(attempts), MAX_BATCH):
            batch = attempts[start : start + MAX_BATCH]
            sent = time.monotonic()
            for (key, number), reply in zip(batch, await self._store.beat(batch), strict=True):
                attempt = self._executor.running.get((key, number))
                if attempt is not None and reply != "REFUSED":
                    attempt.lease_until = sent + LEASE
                if reply == "CANCEL":
                    self._executor.stop(key, number, StopReason.CANCEL)
                elif reply == "REFUSED":
                    self._executor.stop(key, number, StopReason.FENCED)

    async def store_progress(self) -> None:
        """Store the latest progress reports, until cancelled. While Redis is away, the latest report waits."""
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL)
            reports = {each: each.unstored_progress for each in self._executor.running.values()}
            unstored = {attempt: report for attempt, report in reports.items() if report is not None}
            if unstored:
                with suppress(Unavailable):
                    await self._store_reports(unstored)

    async def _store_reports(self, reports: Mapping[Attempt, ProgressReport]) -> None:
        changes = []
        for attempt, report in reports.items():
            attempt.unstored_progress = None
            changes.append(pack(lifecycle.progress(attempt.record, report.percent, report.detail)))
        try:
            replies = await self._store.write(changes)
        except Unavailable:
            for attempt, report in reports.items():
                attempt.unstored_progress = attempt.unstored_progress or report
            raise
        for attempt, reply in zip(reports, replies, strict=True):
            if reply is not ChangeReply.OK:
                self._executor.stop(attempt.record.key, attempt.record.attempt, StopReason.FENCED)
