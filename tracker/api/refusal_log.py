"""The log of refused requests, with a limit: a client that sends many bad requests causes few lines."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.hdrs import AUTHORIZATION

from tracker.api.auth import Authenticator
from tracker.api.client_address import key_of, parse_address
from tracker.api.error_responses import REASON

log = structlog.get_logger()

LOGGED: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
)
"""The statuses of refusals that are logged."""
WINDOW: Final = 60.0
"""Seconds in which a client gets one line for each status."""
MOST_CLIENTS: Final = 4096
"""How many clients and statuses are remembered at most. The one whose line is the oldest is forgotten first."""
MOST_LINES: Final = 300
"""How many lines all clients cause within WINDOW at most."""
SWEEP_INTERVAL: Final = 5.0
"""Seconds between two looks for windows that are over."""

_LONGEST_REASON: Final = 200


@dataclass(slots=True)
class _Window:
    """The refusals of one client with one status since its last line."""

    begun: float
    suppressed: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    """The fields of the last refusal that was not logged."""


class RefusalLog:
    """Logs refusals as `request_refused`: one line in WINDOW for each client and status.

    A client is a caller, or an address if no caller is known. Refusals without a line are counted. The next line of the
    client and status, which is written at the end of the window, has their number as `suppressed`. If the clients are
    too many, the refusals that get no line at all are counted together, as `refusals_suppressed`.
    """

    def __init__(self, authenticator: Authenticator, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._authenticator, self._clock = authenticator, clock
        self._windows: OrderedDict[tuple[int, str], _Window] = OrderedDict()
        self._lines, self._lines_begun, self._without_line = 0, clock(), 0

    def __len__(self) -> int:
        """How many clients and statuses are remembered."""
        return len(self._windows)

    def note(self, request: web.BaseRequest, status: int, request_id: str, *, reason: str = "") -> None:
        """Log the refusal of a request, or count it. `reason`: default is the message of the response's error."""
        client, named = self._client_of(request)
        fields: dict[str, Any] = {
            "status": int(status),
            "reason": (reason or request.get(REASON, ""))[:_LONGEST_REASON],
            "route": _route_of(request),
            **named,
            "request_id": request_id,
        }
        window = self._windows.get((status, client))
        if window is None:
            self._windows[status, client] = _Window(self._clock())
            if len(self._windows) > MOST_CLIENTS:
                self._without_line += self._windows.popitem(last=False)[1].suppressed
            self._write(fields, 1)
        else:
            window.suppressed += 1
            window.last = fields

    async def run(self) -> None:
        """Log what was suppressed, at the end of each window and when this call is cancelled."""
        try:
            while True:
                await asyncio.sleep(SWEEP_INTERVAL)
                self.sweep(self._clock() - WINDOW)
        finally:
            self.sweep(self._clock())

    def sweep(self, begun: float) -> None:
        """End the windows that have begun until then. After a window with suppressed refusals another one begins.

        The windows are in the order of their beginning, so that only those that have ended are looked at.
        """
        self._next_lines()
        ended = 0
        for window in self._windows.values():
            if window.begun > begun:
                break
            ended += 1
        for _ in range(ended):
            key, window = self._windows.popitem(last=False)
            if window.suppressed:
                self._windows[key] = _Window(self._clock())
                self._write({**window.last, "suppressed": window.suppressed}, window.suppressed)

    def _write(self, fields: dict[str, Any], refusals: int) -> None:
        self._next_lines()
        if self._lines < MOST_LINES:
            self._lines += 1
            log.info("request_refused", **fields)
        else:
            self._without_line += refusals

    def _next_lines(self) -> None:
        """Begin to count lines anew when the time is up, and log how many refusals got none."""
        now = self._clock()
        if now - self._lines_begun >= WINDOW:
            if self._without_line:
                log.warning("refusals_suppressed", refusals=self._without_line)
            self._lines, self._lines_begun, self._without_line = 0, now, 0

    def _client_of(self, request: web.BaseRequest) -> tuple[str, dict[str, str]]:
        """The client under whose name a refusal is counted, and the fields that name it in the log."""
        headers = request.headers
        # The headers of what aiohttp could not parse are an empty dict, which has no `getall`.
        tokens = headers.getall(AUTHORIZATION) if AUTHORIZATION in headers else ()
        caller = self._authenticator.callers.find(tokens[0]) if len(tokens) == 1 else None
        if caller is not None:
            return f"{caller.name}:{caller.tenant}", {"caller": caller.name, "tenant": caller.tenant}
        address = self._authenticator.addresses.of(request) or parse_address(request.remote or "")
        key = "unknown" if address is None else key_of(address)
        return key, {"remote": key}


REFUSALS: Final = web.AppKey("refusals", RefusalLog)


def _route_of(request: web.BaseRequest) -> str:
    """The template of the request's route; "" if it has none. The path itself may be as long as the client likes."""
    if not isinstance(request, web.Request):
        return ""
    try:
        resource = request.match_info.route.resource
    except AssertionError:  # aiohttp asks for the match of a request that was not routed
        return ""
    return "" if resource is None else resource.canonical
