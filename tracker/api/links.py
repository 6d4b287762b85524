"""Absolute addresses of what an answer names, as the client of this request sees the API."""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote

from aiohttp import web

from tracker.api.headers import forwarded
from tracker.config import Settings
from tracker.errors import ConfigurationError

PREFIXES: Final = ("", "/v1.0", "/beta")
"""Every path stands under each of these; links keep the request's own."""

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Links:
    """Addresses below one base, such as `https://example.org/v1.0`."""

    __slots__ = ("base",)

    def __init__(self, base: str) -> None:
        self.base = base

    def collection(self, call_id: str) -> str:
        """The operations of a call."""
        return f"{self.base}/communications/calls/{_segment(call_id)}/operations"

    def operation(self, call_id: str, operation_id: str) -> str:
        """One operation."""
        return f"{self.collection(call_id)}/{operation_id}"

    def monitor(self, operation_id: str) -> str:
        """The status monitor of one operation."""
        return f"{self.base}/operations/{operation_id}"

    def context(self, call_id: str) -> str:
        """The `@odata.context` of a call's operations; one that stands alone adds `/$entity`."""
        return f"{self.base}/$metadata#communications/calls('{_key(call_id)}')/operations"


@lru_cache(1024)
def _segment(call_id: str) -> str:
    """A call's name in a path."""
    return quote(call_id, safe="")


@lru_cache(1024)
def _key(call_id: str) -> str:
    """A call's name as a key, in quotes."""
    return quote(call_id.replace("'", "''"), safe="'")


class Addresses:
    """How the API is reached: by its public address, else as the request says."""

    def __init__(self, settings: Settings) -> None:
        self._public = settings.public_url
        self._proxies = tuple(_network(word) for word in settings.trusted_proxies)

    def links(self, request: web.Request, *, prefix: str | None = None) -> Links:
        """The links of one request, below its own prefix or another.

        What a proxy says of its client's request counts from a trusted one only.
        """
        below = _prefix(request) if prefix is None else prefix
        return Links(f"{self._public or self._origin(request)}{below}")

    def path_of(self, request: web.Request, url: str) -> str | None:
        """Path and query of an absolute URL of this API; None for another's. The scheme may be a proxy's."""
        address = url.partition("://")[2]
        for root in (self._public, self._origin(request)):
            own = root.partition("://")[2]
            rest = address[len(own) :]
            if own and address[: len(own)].lower() == own.lower() and rest[:1] in {"", "/", "?", "#"}:
                return rest
        return None

    def _origin(self, request: web.Request) -> str:
        scheme, host = request.scheme, request.headers.get("Host", "")
        if self._proxies and self._is_trusted(request.remote):
            proto, named = _as_forwarded(request)
            scheme, host = proto.lower() or scheme, named or host
        if scheme not in {"http", "https"}:
            scheme = request.scheme
        return f"{scheme}://{host if _is_host(host) else _own_address(request)}"

    def _is_trusted(self, remote: str | None) -> bool:
        if not remote:
            return False
        address = ip_address(remote.partition("%")[0])
        return any(address in network for network in self._proxies)


def _prefix(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "" if resource is None else _prefix_of(resource.canonical)


@lru_cache(256)
def _prefix_of(path: str) -> str:
    return next((prefix for prefix in PREFIXES if prefix and path.startswith(f"{prefix}/")), "")


def _as_forwarded(request: web.Request) -> tuple[str, str]:
    """Scheme and host that the peer, which is trusted, was called with; "" for what it does not say.

    `X-Forwarded-*`, else `Forwarded`: never a value of each, because a proxy that writes the one may let a
    client's other one pass.
    """
    proto, host = _last(request, "X-Forwarded-Proto"), _last(request, "X-Forwarded-Host")
    if proto or host:
        return proto, host
    element = forwarded(request.headers.getall("Forwarded", ()))
    return element.get("proto", ""), element.get("host", "")


def _last(request: web.Request, name: str) -> str:
    """The last value: the one that the peer itself has written."""
    lines = request.headers.getall(name, ())
    return lines[-1].rpartition(",")[2].strip() if lines else ""


@lru_cache(256)
def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def _own_address(request: web.Request) -> str:
    """Where the request arrived, for one whose `Host` is missing or cannot stand in an address."""
    name = None if request.transport is None else request.transport.get_extra_info("sockname")
    match name:
        case (str(host), int(port)):
            return f"{host}:{port}"
        case (str(host), int(port), _, _):
            return f"[{host.partition('%')[0]}]:{port}"
        case _:
            return "localhost"


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(word, strict=False)
    except ValueError as error:
        raise ConfigurationError(f"TRACKER_TRUSTED_PROXIES: {error}") from None
