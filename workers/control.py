"""What a worker is told while it works: that there are operations, to cancel one, and RQ's commands."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from tracker import lifecycle
from tracker.background import beside
from tracker.errors import TrackerError, Unavailable
from tracker.queue import parse_job_id
from tracker.scripts import answering
from tracker.store import Store
from workers.commits import PAUSE

log = structlog.get_logger()

CHECK_EVERY = 10.0
"""Seconds of silence after which the connection is asked whether it still lives, and then to wait for its answer."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do about what is heard. `missed` is called when something may not have been heard."""

    wake: Callable[[], None]
    cancel: Callable[[str, int], None]
    shut_down: Callable[[], None]
    missed: Callable[[], None]


class Control:
    """Listens on one connection. `rq_channel` is where RQ publishes its commands for this worker."""

    def __init__(self, store: Store, orders: Orders, *, worker: str, rq_channel: str) -> None:
        self._store, self._orders = store, orders
        self._channels = {
            store.keys.wake: self._woken,
            store.keys.control(worker): self._told,
            rq_channel: self._commanded,
        }
        self._stops: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Listen for ever; survives every outage of Redis."""
        pause = PAUSE[0]
        async with beside(self._stop_jobs()):
            while True:
                try:
                    async with answering(within=None), self._store.redis.pubsub() as subscription:
                        await subscription.subscribe(*self._channels)
                        pause = PAUSE[0]
                        await self._listen(subscription)
                except Unavailable as error:
                    log.debug("control_interrupted", reason=str(error.__cause__ or error))
                except Exception:
                    log.exception("control_failed")
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter
                pause = min(PAUSE[1], pause * 2)

    async def _listen(self, subscription: Any) -> None:
        """redis-py mends a lost connection by itself; a new "subscribe" tells of it.

        Raises Unavailable for a connection that is silent even when it is asked: it may be gone, unknown to us.
        """
        asked = False
        while True:
            with suppress(TimeoutError):
                message = await subscription.get_message(timeout=CHECK_EVERY)
                if message is not None:
                    asked = False
                    self._hear(message)
                    continue
            if asked:
                raise Unavailable("The store does not answer.")
            await subscription.ping()
            asked = True

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._orders.missed()
        if message["type"] != "message":
            return
        try:
            self._channels[message["channel"]](message["data"])
        except (ValueError, KeyError, TypeError):
            log.warning("order_unreadable", channel=message["channel"], data=str(message["data"])[:200])

    def _woken(self, _: str) -> None:
        self._orders.wake()

    def _told(self, text: str) -> None:
        word, key, attempt = text.split()
        if word == "cancel":
            self._orders.cancel(key, int(attempt))

    def _commanded(self, text: str) -> None:
        """RQ's commands (rq/command.py)."""
        payload: Mapping[str, str] = json.loads(text)
        match payload["command"]:
            case "shutdown":
                log.info("worker_shut_down", by="rq")
                self._orders.shut_down()
            case "stop-job" | "stop-execution":
                self._stops.put_nowait(str(payload["job_id"]))
            case "kill-horse":
                log.warning(
                    "kill_horse_refused", reason="this worker runs many operations; cancel one, or stop its job"
                )
            case other:
                log.warning("rq_command_unknown", command=other)

    async def _stop_jobs(self) -> None:
        """Cancel the operations whose RQ job somebody stops."""
        while True:
            job_id = await self._stops.get()
            ticket = parse_job_id(job_id)
            if ticket is None:
                log.warning("foreign_job", job_id=job_id)
                continue
            try:
                await self._cancel(*ticket)
            except TrackerError as error:
                log.warning("job_not_stopped", job_id=job_id, reason=error.message)
            except Exception:
                log.exception("job_not_stopped", job_id=job_id)

    async def _cancel(self, key: str, ticket: int) -> None:
        """Ask as a client does: the intent is stored, and comes back as an order. Raises TrackerError."""
        ask: Callable[..., Awaitable[Any]] = self._store.apply
        for record in await self._store.read([key]):
            if record.ticket == ticket and not record.status.final:
                await ask(lifecycle.request_cancel(record, "rq", by="rq"))
