"""The registry of tenants that an installation has: those in the tokens of its API processes, and those with tickets.

Workers ask how many there are. A tenant that is alone may take all slots of a worker.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import structlog

from tracker.domain.operation import SECOND
from tracker.errors import Unavailable
from tracker.store.keys import owner_digest
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from tracker.store.store import Store

log = structlog.get_logger()

ANNOUNCE_INTERVAL = 60.0
"""Time between two announcements of an API process, in seconds."""
RETRY_INTERVAL = 1.0
"""Time until an announcement that failed is repeated, in seconds."""


class TenantRegistry:
    """The tenants. The sweeper removes a tenant that was not announced and had no tickets for 7 days."""

    def __init__(self, store: "Store") -> None:
        self._redis, self._key = store.redis, store.keys.known_tenants

    async def announce(self, tenants: Collection[str]) -> None:
        """Add tenants. Raises Unavailable while Redis is away."""
        if not tenants:
            return
        async with answering():
            seconds, _ = await self._redis.time()
            now = int(seconds) * SECOND
            await self._redis.zadd(self._key, {owner_digest(tenant): now for tenant in tenants}, gt=True)

    async def count(self) -> int:
        """How many tenants there are. Raises Unavailable while Redis is away."""
        async with answering():
            return int(await self._redis.zcard(self._key))

    async def keep_announced(self, tenants: Callable[[], Collection[str]]) -> None:
        """Announce what `tenants` returns again and again, until cancelled."""
        while True:
            try:
                await self.announce(tenants())
                wait = ANNOUNCE_INTERVAL
            except Unavailable as error:
                log.debug("tenants_not_announced", reason=str(error.__cause__))
                wait = RETRY_INTERVAL
            await asyncio.sleep(wait)
