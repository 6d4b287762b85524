"""The address of the client that sent a request, behind trusted proxies too.

A proxy appends the address that it was called from to `X-Forwarded-For` or `Forwarded`. A client can send these headers
itself, so that only what trusted proxies appended is true. The list is therefore read from its right end, and ends at
the first address that is no trusted proxy's.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final

from aiohttp import hdrs, web

from tracker.config import Settings
from tracker.errors import ConfigurationError

Address = IPv4Address | IPv6Address

MOST_HOPS: Final = 32
"""How many addresses of a proxy's header are looked at. Behind more proxies a client has no known address."""

_V6_PREFIX: Final = 64
"""How many leading bits of an IPv6 address name one network. A provider gives a customer at least such a network."""
_X_FORWARDED: Final = (hdrs.X_FORWARDED_FOR, hdrs.X_FORWARDED_HOST, hdrs.X_FORWARDED_PROTO)
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^";\s]*)"?\s*(?:;|$)', re.IGNORECASE)
"""The parameter `for` of an element of `Forwarded` (RFC 7239, 5.2)."""
_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::\w+)?|([0-9.]+):\w+")
"""An IPv6 address in brackets, or an IPv4 address before a port (RFC 7239, 6)."""


class ClientAddresses:
    """Finds the addresses of clients. A proxy's headers count only if TRACKER_TRUSTED_PROXIES has its address."""

    def __init__(self, settings: Settings) -> None:
        self._proxies = tuple(_network(word) for word in settings.trusted_proxies)
        self._peer = lru_cache(1024)(self._read_peer)
        """Remembers peers, for speed: proxies send many requests each."""

    def of(self, request: web.BaseRequest) -> Address | None:
        """The address of the client of a request. None if it is not known.

        It is not known for a request that a trusted proxy sent on its own account, as for a probe, or for a client that
        the proxy does not name by an address. A trusted proxy's address is never a client's.
        """
        peer, is_proxy = self._peer(request.remote)
        if not is_proxy:
            return peer
        for hop in islice(_hops(request), MOST_HOPS):
            address = parse_address(hop)
            if not self._trusts(address):
                return address
        return None

    def of_peer(self, remote: str | None) -> Address | None:
        """The address from which a connection came. None for a connection of a trusted proxy."""
        peer, is_proxy = self._peer(remote)
        return None if is_proxy else peer

    def is_proxy(self, remote: str | None) -> bool:
        """Whether a connection from this address is a trusted proxy's."""
        return bool(self._proxies) and self._peer(remote)[1]

    def _read_peer(self, remote: str | None) -> tuple[Address | None, bool]:
        """The address in a socket's name, and whether it is a trusted proxy's."""
        address = parse_address(remote or "")
        return address, self._trusts(address)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)


def parse_address(text: str) -> Address | None:
    """The address in a socket's name or in a proxy's header, without port and zone. None for any other text.

    An IPv4 address that is written as an IPv6 address, as a socket for both families does, is the IPv4 address.
    """
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2] or ""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def key_of(address: Address) -> str:
    """The key under which an address is counted: the address itself, or the /64 network of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), _V6_PREFIX), strict=False))


def _hops(request: web.BaseRequest) -> Iterator[str]:
    """The addresses that proxies appended, the last one first.

    `Forwarded` counts only without any `X-Forwarded-*`: a proxy that sets one of them may pass on the other as its
    client sent it. An element is found from the right, because a quotation mark that a client left open would hide
    everything after it from a reader that comes from the left.
    """
    headers = request.headers
    if any(name in headers for name in _X_FORWARDED):
        yield from _elements(request, hdrs.X_FORWARDED_FOR)
        return
    for element in _elements(request, hdrs.FORWARDED):
        match = _FOR.search(element)
        yield match[1] if match else ""


def _elements(request: web.BaseRequest, name: str) -> Iterator[str]:
    """The elements of a list in a header that are not empty (RFC 9110, 5.6.1), the last one first."""
    # The headers of what aiohttp could not parse are an empty dict, which has no `getall`.
    for line in reversed(request.headers.getall(name) if name in request.headers else ()):
        rest = line
        while rest:
            rest, _, element = rest.rpartition(",")
            if element.strip():
                yield element


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(word, strict=False)
    except ValueError as error:
        raise ConfigurationError(f"TRACKER_TRUSTED_PROXIES: {error}") from None
