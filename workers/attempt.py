"""One attempt, from claim to outcome.

The process that runs this executes no handler code: the handler is in a child of its own, so beats cannot be
starved, and the child can be killed without losing the outcome.
"""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import structlog

from tracker import lifecycle
from tracker.background import beside
from tracker.errors import NotFound, Refused, TrackerError, Unavailable
from tracker.lifecycle import Arrow, Change
from tracker.log import transition
from tracker.model import RAISED, Json, Record
from tracker.store import LEASE, CancelPending, Store, UnknownType
from tracker.types import Catalogue, canonical
from workers import outcomes

log = structlog.get_logger()

BEAT_EVERY = 2.0
"""Seconds between two beats: a fifth of the lease."""
KILL_GRACE = 5.0
"""Seconds from asking a handler to stop to killing it."""
PROGRESS_EVERY = 0.25
"""Seconds between two stored progress reports."""
LINE_LIMIT = 1024 * 1024
FIRST_PAUSE = 0.1

T = TypeVar("T")


class Stop(StrEnum):
    """Why a handler was asked to stop."""

    CANCEL = "cancel"
    """Somebody asked for a cancel."""
    DEADLINE = "deadline"
    """The attempt's time is over."""
    DRAIN = "drain"
    """The worker is stopping."""
    FENCED = "fenced"
    """The attempt is not the current one any more."""


@dataclass(frozen=True, slots=True)
class Handler:
    """The handler's process and the line to it."""

    pid: int
    channel: socket.socket


class Attempt:
    """Runs one ticket's attempt. `run` never raises for anything that a handler, a client or Redis does."""

    def __init__(self, store: Store, catalogue: Catalogue, handler: Handler, *, worker: str) -> None:
        self._store, self._catalogue, self._handler, self._worker = store, catalogue, handler, worker
        self._stop: Stop | None = None
        self._reaped = False
        self._progress: Json | None = None
        self._reported = asyncio.Event()

    async def run(self, key: str, ticket: int) -> None:
        """Claim, run the handler, write exactly one outcome; or leave a ticket that is not to be run."""
        record = None
        try:
            record = await self._claim(key, ticket)
        finally:
            if record is None:
                self._handler.channel.close()  # without an order it ends by itself
                await self._ended()
        if record is not None:
            await self._run(record)

    def stop(self, why: Stop) -> None:
        """Ask the handler to stop, and kill it when it has not within the grace. The first reason counts."""
        if self._stop is None:
            self._stop = why
            if not self._reaped:
                os.kill(self._handler.pid, signal.SIGTERM)
                asyncio.get_running_loop().call_later(KILL_GRACE, self._kill)

    async def _run(self, record: Record) -> None:
        transition(Arrow.CLAIM, record, worker=self._worker)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = loop.call_later(record.policy.run_within, self.stop, Stop.DEADLINE)
        async with beside(self._beat(record), self._store_progress(record)):
            outcome = await self._outcome(record)
        deadline.cancel()
        await self._commit(record, outcome, duration=round(loop.time() - began, 3))

    async def _claim(self, key: str, ticket: int) -> Record | None:
        types = [canonical(name) for name, entry in self._catalogue.items() if entry.handler is not None]
        try:
            return await _patiently(lambda: self._store.claim(key, ticket, worker=self._worker, types=types))
        except UnknownType as unknown:
            log.warning("type_not_here", type=unknown.record.type, advice="give this worker the same TRACKER_TYPES")
            with contextlib.suppress(TrackerError):
                change = lifecycle.decline(unknown.record)
                transition(change.arrow, await self._store.apply(change), worker=self._worker)
        except (Refused, NotFound) as refused:
            log.info("ticket_refused", key=key, ticket=ticket, reason=refused.message)
        except Unavailable as away:
            log.warning("ticket_dropped", key=key, ticket=ticket, redis=self._store.address, reason=away.message)
        return None

    async def _outcome(self, record: Record) -> Json:
        """Tell the handler what to do, follow its progress, return its outcome line or how its process died."""
        reader, writer = await asyncio.open_unix_connection(sock=self._handler.channel, limit=LINE_LIMIT)
        died = asyncio.create_task(self._ended())
        lines = asyncio.create_task(self._read(reader))
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(_order(record)).encode() + b"\n")
            await writer.drain()
        await asyncio.wait({died, lines}, return_when=asyncio.FIRST_COMPLETED)
        if not lines.done():  # its process has ended, but a child of its own may have held the line open
            await asyncio.wait({lines}, timeout=1)
        outcome = lines.result() if lines.done() else None
        lines.cancel()
        self._kill()
        code = await died
        writer.close()
        return outcome or {"outcome": "died", "signal": code}

    async def _ended(self) -> int:
        """Wait until the handler's process has ended, and end what it leaves behind; return its exit code.

        It is reaped by this thread, which also sends the signals: none can reach a pid that is somebody else's.
        """
        pid = self._handler.pid
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self._kill()
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended, this does not wait
        self._reaped = True
        return os.waitstatus_to_exitcode(status)

    def _kill(self) -> None:
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._handler.pid, signal.SIGKILL)

    async def _read(self, reader: asyncio.StreamReader) -> Json | None:
        with contextlib.suppress(ConnectionError, ValueError):
            async for text in reader:
                line: Json = json.loads(text)
                if "outcome" in line:
                    return line
                self._progress = line
                self._reported.set()
        return None

    async def _beat(self, record: Record) -> None:
        while True:
            try:
                if await self._store.beat(record):
                    self.stop(Stop.CANCEL)
            except Refused:
                self.stop(Stop.FENCED)
            except Unavailable:
                log.warning("beat_missed", operation_id=record.id, attempt=record.attempt)
            except Exception:
                log.exception("beat_failed", operation_id=record.id, attempt=record.attempt)
            await asyncio.sleep(BEAT_EVERY)

    async def _store_progress(self, record: Record) -> None:
        while True:
            await self._reported.wait()
            self._reported.clear()
            line = self._progress or {}
            try:
                await self._store.apply(lifecycle.progress(record, line["progress"], line["detail"]))
            except (Refused, NotFound):
                self.stop(Stop.FENCED)
            except Unavailable:
                log.debug("progress_dropped", operation_id=record.id)
            await asyncio.sleep(PROGRESS_EVERY)

    async def _commit(self, record: Record, outcome: Json, *, duration: float) -> None:
        """Write the outcome, waiting for Redis as long as it takes; the fence decides whether it still counts."""
        try:
            arrow, after = await self._end(record, outcome)
        except (Refused, NotFound) as refused:
            log.warning("outcome_refused", operation_id=record.id, attempt=record.attempt, reason=refused.message)
        except Exception:
            log.exception("outcome_unusable", operation_id=record.id, attempt=record.attempt)
            if outcome is not _UNUSABLE:
                await self._commit(record, _UNUSABLE, duration=duration)
        else:
            transition(arrow, after, duration=duration, worker=self._worker, **outcomes.for_the_log(outcome))

    async def _end(self, record: Record, outcome: Json) -> tuple[Arrow, Record]:
        """Decide and apply the attempt's end. Raises Refused when it is not the current one any more."""
        change = await _patiently(lambda: self._decide(record, outcome), within=math.inf)
        try:
            return change.arrow, await self._apply(change)
        except CancelPending:
            members = outcome.get("members", {})
            change = await _patiently(lambda: self._canceled(record, members), within=math.inf)
            return change.arrow, await self._apply(change)

    async def _apply(self, change: Change) -> Record:
        """Apply the very same change until there is an answer: by its token it is written once."""
        change = self._with_progress(change)
        return await _patiently(lambda: self._store.apply(change), within=math.inf)

    def _with_progress(self, change: Change) -> Change:
        """The latest report goes with the outcome: it may have come too soon after another to be stored."""
        if self._progress is None:
            return change
        latest = {"percent": self._progress["progress"], "detail": self._progress["detail"]}
        return replace(change, fields={**latest, **change.fields})

    async def _decide(self, record: Record, outcome: Json) -> Change:
        """The change that an outcome means. Raises Refused when the attempt is no longer ours to end."""
        if outcome["outcome"] in {"succeeded", "rejected", "retry"}:
            return outcomes.by_handler(record, outcome)
        match self._stop:
            case None:
                return outcomes.by_failure(record, outcome)
            case Stop.CANCEL:
                return await self._canceled(record, outcome.get("members", {}))
            case Stop.DEADLINE:
                return lifecycle.time_out(record)
            case Stop.DRAIN:
                return lifecycle.hand_back(record)
            case Stop.FENCED:
                raise Refused("a beat was refused")

    async def _canceled(self, record: Record, members: Json) -> Change:
        """A cancel is decided on the record as it is now, which knows who asked and why."""
        for current in await self._store.read([record.key]):
            if current.stage == record.stage and current.attempt == record.attempt:
                return lifecycle.cancel(current, members=members)
        raise Refused("the attempt is not the current one")


_UNUSABLE: Json = {"outcome": "raised", "result": RAISED.model_dump()}


async def _patiently(ask: Callable[[], Awaitable[T]], *, within: float = LEASE) -> T:
    """Ask Redis again while it is away, for that many seconds. What is asked must bear being repeated."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = FIRST_PAUSE
    while True:
        try:
            return await ask()
        except Unavailable as error:
            if loop.time() >= deadline:
                raise
            if pause == FIRST_PAUSE:
                log.warning("store_away", reason=str(error.__cause__))
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)


def _order(record: Record) -> Json:
    return {
        "type": record.type,
        "id": record.id,
        "call_id": record.call_id,
        "attempt": record.attempt,
        "key": record.key,
        "members": record.members,
        "client_context": record.client_context,
    }
