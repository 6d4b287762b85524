"""Shares of a resource of this process, such as bytes or open streams: tenants hold units of it and wait for them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from tracker.errors import Unavailable

_AT_LEAST_TWO: Final = 2


def most_of_one(total: int, per_cent: int) -> int:
    """How many of `total` units one of several tenants holds at most: this part, but not the last unit.

    If there is only one unit, each tenant may hold it.
    """
    return max(1, min(total * per_cent // 100, total - 1)) if total else 0


class Tenants:
    """The tenants that this process knows, and which part of a resource one of them holds at most.

    While the process knows one tenant only, this tenant may hold everything.
    """

    def __init__(self, per_cent: int = 100) -> None:
        self._per_cent = per_cent
        self._known: set[str] = set()

    def know(self, *tenants: str) -> None:
        """Add tenants."""
        self._known.update(tenants)

    def most_of(self, total: int) -> int:
        """How many of `total` units one tenant may hold. If there are several tenants, at least one unit is left."""
        return most_of_one(total, self._per_cent) if len(self._known) >= _AT_LEAST_TWO else total


class Shares:
    """The units of one resource. Those who wait get units in the order of their requests, one of each tenant in turn.

    So a tenant that asks for everything makes no other tenant wait for more than one unit.
    """

    def __init__(self, total: int, tenants: Tenants) -> None:
        self.total = total
        self.held = 0
        """How many units all tenants hold."""
        self._tenants = tenants
        self._held_by: dict[str, int] = {}
        self._waiting: dict[str, dict[asyncio.Future[bool], int]] = {}
        """For each tenant that waits, in the order of their turns: the futures, each with its number of units."""

    def held_by(self, tenant: str) -> int:
        """How many units a tenant holds."""
        return self._held_by.get(tenant, 0)

    def take(self, tenant: str, units: int = 1) -> bool:
        """Take units that are free. Returns False, and takes none, if there are too few for this tenant."""
        self._tenants.know(tenant)
        if tenant in self._waiting or not self._fits(tenant, units):
            return False
        self.count(tenant, units)
        return True

    def count(self, tenant: str, units: int) -> None:
        """Count units that the tenant holds already. There may be more of them than the limits allow."""
        self.held += units
        self._held_by[tenant] = self._held_by.get(tenant, 0) + units

    def give_back(self, tenant: str, units: int = 1) -> None:
        """Give back units, which go to those who wait."""
        self._uncount(tenant, units)
        self._serve()

    async def acquire(self, tenant: str, units: int = 1, *, within: float) -> bool:
        """Take units as soon as they are free. Returns False if they are not free within this time, in seconds."""
        if self.take(tenant, units):
            return True
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[bool] = loop.create_future()
        self._waiting.setdefault(tenant, {})[granted] = units
        timer = loop.call_later(within, _refuse, granted)
        try:
            return await granted
        except asyncio.CancelledError:
            if not granted.cancelled() and granted.result():
                self.give_back(tenant, units)
            raise
        finally:
            timer.cancel()
            self._forget(tenant, granted)

    @contextmanager
    def taken(self, tenant: str, refusal: str, *, retry_after: int = 1) -> Iterator[None]:
        """Hold one unit in the body of the `with`. Raises Unavailable with this message if none is free."""
        if not self.take(tenant):
            raise Unavailable(refusal, retry_after=retry_after)
        try:
            yield
        finally:
            self.give_back(tenant)

    @asynccontextmanager
    async def acquired(self, tenant: str, refusal: str, *, within: float) -> AsyncIterator[None]:
        """Hold one unit in the body of the `with`, and wait for the unit. Raises Unavailable with this message."""
        if not await self.acquire(tenant, within=within):
            raise Unavailable(refusal)
        try:
            yield
        finally:
            self.give_back(tenant)

    def _fits(self, tenant: str, units: int) -> bool:
        return self.held + units <= self.total and self._held_by.get(tenant, 0) + units <= self._tenants.most_of(
            self.total
        )

    def _uncount(self, tenant: str, units: int) -> None:
        self.held -= units
        left = self._held_by[tenant] - units
        if left:
            self._held_by[tenant] = left
        else:
            del self._held_by[tenant]

    def _serve(self) -> None:
        """Give free units to those who wait: to the first of each tenant, until nobody's units are free."""
        served = bool(self._waiting)
        while served:
            served = False
            for tenant in [*self._waiting]:
                granted, units = next(iter(self._waiting[tenant].items()))
                if granted.done():  # its task has been cancelled, or has waited for too long
                    self._forget(tenant, granted)
                    served = True
                elif self._fits(tenant, units):
                    self.count(tenant, units)
                    self._waiting[tenant] = self._waiting.pop(tenant)  # the tenant's next turn is after the others'
                    self._forget(tenant, granted)
                    granted.set_result(True)
                    served = True

    def _forget(self, tenant: str, granted: asyncio.Future[bool]) -> None:
        waiting = self._waiting.get(tenant, {})
        waiting.pop(granted, None)
        if not waiting:
            self._waiting.pop(tenant, None)


def _refuse(granted: asyncio.Future[bool]) -> None:
    if not granted.done():
        granted.set_result(False)
