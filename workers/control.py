"""What a worker is told while it works: that there are operations, to cancel one, and RQ's commands."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from tracker.domain import lifecycle
from tracker.errors import TrackerError
from tracker.events.subscriber import listen
from tracker.runtime.background import beside
from tracker.store.rq_tickets import parse_job_id
from tracker.store.store import Store

log = structlog.get_logger()


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
        async with beside(self._stop_jobs()):
            await listen(self._store.redis, *self._channels, on_message=self._heard, on_connection=self._connected)

    def _connected(self, there: bool) -> None:  # noqa: FBT001 - what `listen` tells
        if there:
            self._orders.missed()

    def _heard(self, channel: str, text: str) -> None:
        try:
            self._channels[channel](text)
        except (ValueError, KeyError, TypeError):
            log.warning("order_unreadable", channel=channel, data=text[:200])

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
