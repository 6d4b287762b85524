"""Limits of the number of connections to one API process, in all and for each client's address.

Without a limit, a client that opens connections and sends nothing would take all open files of the process. Then the
system resets the connections of everybody else, and of health probes.
"""

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

from aiohttp import web

from tracker.api.client_address import Address, ClientAddresses, key_of
from tracker.config import Settings
from tracker.errors import Unavailable

SPARE: Final = 16
"""How many connections over the limit are served, for `/healthz` and `/readyz` only."""
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""The paths of health probes. An orchestrator asks for them from anywhere, and by any host."""
RETRY_AFTER: Final = 5
"""The `Retry-After`, in seconds, when too many connections are open."""

_BURST: Final = 64
"""How many connections are accepted before the first of them is counted, if the process may open few files."""
_OTHER_FILES: Final = 32
"""How many open files are kept for Redis, logs and the like."""
BACKLOG: Final = 4096
"""How many connections wait to be accepted at most, if the system allows so many. Others connect again later."""
_ADDRESSES_AT_LIMIT: Final = 2
"""How many addresses together may have all connections, unless the settings say otherwise."""


class Admission(Enum):
    """The permission of a new connection."""

    FULL = "full"
    PROBES = "probes"
    """Only ask for the health of the process, because the process has as many connections as it may have."""
    NONE = "none"


class ConnectionLimits:
    """The open connections of this process. `refused` counts what was refused since it was last read."""

    def __init__(self, settings: Settings) -> None:
        files = _raise_file_limit(settings.connections + SPARE + _OTHER_FILES + BACKLOG) - SPARE - _OTHER_FILES
        self.total = max(1, min(settings.connections, files - _BURST))
        self.per_address = settings.connections_per_address or max(1, self.total // _ADDRESSES_AT_LIMIT)
        self.backlog = min(BACKLOG, max(_BURST, files - self.total))
        """How many connections wait to be accepted at most. All of them may be accepted at once."""
        self.refused: Counter[str] = Counter()
        self._addresses = ClientAddresses(settings)
        self._keys: dict[Any, str] = {}
        """The open connections of clients, each with the key under which its address is counted."""
        self._of_proxies: set[Any] = set()
        """The open connections of trusted proxies. Their requests are counted instead, by their clients' addresses."""
        self._spare: set[Any] = set()
        self._by_key: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many connections are open, but for the spare ones."""
        return len(self._keys) + len(self._of_proxies)

    def admit(self, connection: Any, remote: str | None) -> Admission:
        """Count a new connection from an address, and decide what it may do."""
        address = self._addresses.of_peer(remote)
        key = "" if address is None else key_of(address)
        if key and self._by_key[key] >= self.per_address:
            self.refused["address"] += 1
            return Admission.NONE
        if self.open >= self.total:
            self.refused["total"] += 1
            if len(self._spare) >= SPARE:
                return Admission.NONE
            self._spare.add(connection)
            return Admission.PROBES
        if key:
            self._keys[connection] = key
            self._by_key[key] += 1
        else:
            self._of_proxies.add(connection)
        return Admission.FULL

    def is_of_proxy(self, connection: Any) -> bool:
        """Whether a connection is a trusted proxy's."""
        return connection in self._of_proxies

    def release(self, connection: Any) -> None:
        """Forget a connection that is closed."""
        self._spare.discard(connection)
        self._of_proxies.discard(connection)
        if (key := self._keys.pop(connection, None)) is not None:
            self._discount(key)

    @contextmanager
    def counted(self, connection: Any, request: web.BaseRequest) -> Iterator[None]:
        """Check a request on a connection that is not a client's own, and count it while it is served.

        A request from a trusted proxy counts as a connection of its client. Raises Unavailable.
        """
        if connection in self._spare and request.path not in PROBES:
            raise Unavailable("Too many connections are open.", retry_after=RETRY_AFTER)
        address = self._addresses.of(request) if connection in self._of_proxies else None
        if address is None:
            yield
            return
        with self._counted(address):
            yield

    @contextmanager
    def _counted(self, address: Address) -> Iterator[None]:
        key = key_of(address)
        if self._by_key[key] >= self.per_address:
            self.refused["address"] += 1
            raise Unavailable("Too many requests of your address are being served.", retry_after=RETRY_AFTER)
        self._by_key[key] += 1
        try:
            yield
        finally:
            self._discount(key)

    def _discount(self, key: str) -> None:
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]


def _raise_file_limit(wanted: int) -> int:
    """Let this process open as many files as wanted, if the system allows it. Returns how many it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return max(soft, most)
