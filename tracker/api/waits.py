"""`Prefer: wait=N`: requests whose answer is held until something changes (RFC 7240, 4.3)."""

import asyncio
from typing import Final

from aiohttp import web

from tracker.background import end
from tracker.model import Record
from tracker.service import Caller, Operations


class Waits:
    """Holds requests, until the server stops."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    async def hold(self, operations: Operations, caller: Caller, record: Record, seconds: float) -> Record:
        """Wait until the operation is another than `record`, time is up, or the server stops."""
        change = asyncio.create_task(operations.wait(caller, record, seconds=seconds))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((change, stop), return_when=asyncio.FIRST_COMPLETED)
            return change.result() if change.done() else record
        finally:
            await end(change, stop)

    async def release(self, _: web.Application) -> None:
        """Answer all held requests with what is known of their operations."""
        self._stopping.set()


WAITS: Final = web.AppKey("waits", Waits)
