"""The control channels of a worker: new tickets, requests to cancel, and RQ's commands."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from tracker.domain import lifecycle
from tracker.errors import TrackerError
from tracker.events.subscriber import listen
from tracker.runtime.background import beside
from tracker.store.rq_tickets import parse_job_id
from tracker.store.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ControlActions:
    """What the control channels make a worker do."""

    wake: Callable[[], None]
    """Claim now, because a queue is no longer empty."""
    cancel: Callable[[str, int], None]
    """Ask the handler of an attempt to stop. The arguments are the operation's key and the attempt's number."""
    shut_down: Callable[[], None]
    """Stop the worker."""
    catch_up: Callable[[], None]
    """Look for tickets and cancels that may have been published while the connection was lost."""


class Control:
    """Listens to the control channels of one worker, on one connection.

    `rq_channel` is where RQ publishes its commands for this worker.
    """

    def __init__(self, store: Store, actions: ControlActions, *, worker: str, rq_channel: str) -> None:
        self._store, self._actions = store, actions
        self._channels = {
            store.keys.wake: self._on_wake,
            store.keys.control(worker): self._on_request,
            rq_channel: self._on_rq_command,
        }
        self._jobs_to_stop: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Listen until cancelled, through every outage of Redis."""
        async with beside(self._stop_jobs()):
            await listen(
                self._store.redis, *self._channels, on_message=self._on_message, on_connection=self._on_connection
            )

    def _on_connection(self, connected: bool) -> None:  # noqa: FBT001 - `listen` calls it so
        if connected:
            self._actions.catch_up()

    def _on_message(self, channel: str, text: str) -> None:
        try:
            self._channels[channel](text)
        except (ValueError, KeyError, TypeError):
            log.warning("order_unreadable", channel=channel, data=text[:200])

    def _on_wake(self, _: str) -> None:
        self._actions.wake()

    def _on_request(self, text: str) -> None:
        """A request of our own scripts: `cancel <operation key> <attempt number>`."""
        request, key, attempt = text.split()
        if request == "cancel":
            self._actions.cancel(key, int(attempt))

    def _on_rq_command(self, text: str) -> None:
        """A command of RQ's (rq/command.py)."""
        payload: Mapping[str, str] = json.loads(text)
        match payload["command"]:
            case "shutdown":
                log.info("worker_shut_down", by="rq")
                self._actions.shut_down()
            case "stop-job" | "stop-execution":
                self._jobs_to_stop.put_nowait(str(payload["job_id"]))
            case "kill-horse":
                log.warning(
                    "kill_horse_refused", reason="this worker runs many operations; cancel one, or stop its job"
                )
            case other:
                log.warning("rq_command_unknown", command=other)

    async def _stop_jobs(self) -> None:
        """Cancel the operations whose RQ jobs are to stop."""
        while True:
            job_id = await self._jobs_to_stop.get()
            ticket = parse_job_id(job_id)
            if ticket is None:
                log.warning("foreign_job", job_id=job_id)
                continue
            try:
                await self._request_cancel(*ticket)
            except TrackerError as error:
                log.warning("job_not_stopped", job_id=job_id, reason=error.message)
            except Exception:
                log.exception("job_not_stopped", job_id=job_id)

    async def _request_cancel(self, key: str, ticket: int) -> None:
        """Request a cancel in Redis, as the API does for a client. The script then tells the worker.

        Raises TrackerError.
        """
        for record in await self._store.read([key]):
            if record.ticket == ticket and not record.status.final:
                await self._store.apply(lifecycle.request_cancel(record, "rq", by="rq"))
