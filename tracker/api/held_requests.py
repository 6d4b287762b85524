"""Requests that are held open, as waits and streams are, and end when their token is removed."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from aiohttp import web
from aiohttp.hdrs import AUTHORIZATION

from tracker.errors import Unauthorized
from tracker.service import Caller

Find = Callable[[str | None], Caller | None]
"""Finds the caller of an `Authorization` header."""


class HeldRequests:
    """The requests that are held at present."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._held: set[HeldRequest] = set()
        self._ending: set[HeldRequest] = set()

    def __len__(self) -> int:
        """How many requests are held."""
        return len(self._held)

    def hold(self, request: web.BaseRequest, tenant: str) -> "HeldRequest":
        """A context that holds a request of a tenant's caller. It raises Unauthorized once the token is not known."""
        return HeldRequest(self, request.headers.get(AUTHORIZATION), tenant)

    def end_unknown(self) -> None:
        """End the requests whose token is not known any more, or has become another tenant's."""
        found: dict[str | None, Caller | None] = {}  # many requests have the same token
        for request in self._held:
            if request.authorization not in found:
                found[request.authorization] = self._find(request.authorization)
            if not request.belongs_to(found[request.authorization]):
                self._ending.add(request)
        self.end_again()

    def end_again(self) -> None:
        """Cancel the requests that have to end and have not, because a cancellation can be lost (`background.end`)."""
        for request in self._ending:
            request.end()

    def knows(self, request: "HeldRequest") -> bool:
        """Whether the token of a request is still a token of its tenant."""
        return request.belongs_to(self._find(request.authorization))

    def add(self, request: "HeldRequest") -> None:
        """Hold a request."""
        self._held.add(request)

    def discard(self, request: "HeldRequest") -> None:
        """Hold a request no longer."""
        self._held.discard(request)
        self._ending.discard(request)


class HeldRequest:
    """One request, held by the task that enters the context. It works like `asyncio.timeout`."""

    __slots__ = ("_all", "_cancels", "_cancels_before", "_task", "authorization", "tenant")
    _task: "asyncio.Task[object]"

    def __init__(self, requests: HeldRequests, authorization: str | None, tenant: str) -> None:
        self._all, self.authorization, self.tenant = requests, authorization, tenant
        self._cancels = self._cancels_before = 0

    def __enter__(self) -> None:
        """Begin to hold the request. Raises Unauthorized if its token was removed since the request was let in."""
        task = asyncio.current_task()
        if task is None:
            raise TypeError("there is no current task")
        if not self._all.knows(self):
            raise _removed()
        self._task, self._cancels_before = task, task.cancelling()
        self._all.add(self)

    def belongs_to(self, caller: Caller | None) -> bool:
        """Whether the caller to whom the token belongs now may see what the request waits for."""
        return caller is not None and caller.tenant == self.tenant

    def end(self) -> None:
        """End the request."""
        self._cancels += 1
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise Unauthorized in the place of the cancellation that `end` has caused."""
        self._all.discard(self)
        for _ in range(self._cancels):
            self._task.uncancel()
        if self._cancels and kind is asyncio.CancelledError and self._task.cancelling() <= self._cancels_before:
            raise _removed() from None


def _removed() -> Unauthorized:
    return Unauthorized("The token is not known here any more.")
