"""Absolute URLs in responses, with the scheme and host by which the client of the request called.

`lru_cache` is there for speed: plain code would quote the ids of calls anew in each request. That costs 2 % of the
instructions of `make bench-api`: create and read one.
"""

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
"""Every path of Graph's API is served below each prefix. Links have the prefix of the request that they answer."""

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Links:
    """URLs below one base, such as `https://example.org/v1.0`."""

    __slots__ = ("base",)

    def __init__(self, base: str) -> None:
        self.base = base

    def collection(self, call_id: str) -> str:
        """The URL of a call's operations."""
        return f"{self.base}/communications/calls/{_segment(call_id)}/operations"

    def operation(self, call_id: str, operation_id: str) -> str:
        """The URL of one operation."""
        return f"{self.collection(call_id)}/{operation_id}"

    def monitor(self, operation_id: str) -> str:
        """The URL of one operation's status monitor."""
        return f"{self.base}/operations/{operation_id}"

    def context(self, call_id: str) -> str:
        """The `@odata.context` of a list of a call's operations. That of a single operation adds `/$entity`."""
        return f"{self.base}/$metadata#communications/calls('{_key(call_id)}')/operations"


@lru_cache(1024)
def _segment(call_id: str) -> str:
    """A call's id as a segment of a path."""
    return quote(call_id, safe="")


@lru_cache(1024)
def _key(call_id: str) -> str:
    """A call's id as a key in quotes."""
    return quote(call_id.replace("'", "''"), safe="'")


class PublicUrl:
    """The URL by which clients reach the API: TRACKER_PUBLIC_URL, else the scheme and host of each request."""

    def __init__(self, settings: Settings) -> None:
        self._public = settings.public_url
        self._proxies = tuple(_network(word) for word in settings.trusted_proxies)

    def links(self, request: web.Request, *, prefix: str | None = None) -> Links:
        """The links of the response to a request, below this prefix; None for the request's own prefix."""
        return Links(f"{self._public or self._origin(request)}{_prefix(request) if prefix is None else prefix}")

    def path_of(self, request: web.Request, url: str) -> str | None:
        """Path and query of an absolute URL of this API; None for the URL of another server.

        Schemes are not compared: behind a proxy, a client may call by https what arrives here by http.
        """
        without_scheme = url.partition("://")[2]
        for root in (self._public, self._origin(request)):
            own = root.partition("://")[2]
            rest = without_scheme[len(own) :]
            if own and without_scheme[: len(own)].lower() == own.lower() and rest[:1] in {"", "/", "?", "#"}:
                return rest
        return None

    def _origin(self, request: web.Request) -> str:
        """Scheme and host by which the client called. Headers of a proxy count only if the settings trust the proxy."""
        scheme, host = request.scheme, request.headers.get("Host", "")
        if self._proxies and self._is_trusted(request.remote):
            proto, named = _as_forwarded(request)
            scheme, host = proto.lower() or scheme, named or host
        if scheme not in {"http", "https"}:
            scheme = request.scheme
        return f"{scheme}://{host if _is_host(host) else _local_address(request)}"

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
    """Scheme and host by which a trusted proxy was called; "" for a part that its headers do not name.

    Both parts are read from `X-Forwarded-*`, or both from `Forwarded`. A proxy that sets one of these headers may pass
    on the other as its client sent it, so that the two must not be mixed.
    """
    proto, host = _last(request, "X-Forwarded-Proto"), _last(request, "X-Forwarded-Host")
    if proto or host:
        return proto, host
    element = forwarded(request.headers.getall("Forwarded", ()))
    return element.get("proto", ""), element.get("host", "")


def _last(request: web.Request, name: str) -> str:
    """The last value of a header, which is the one that the nearest proxy has added."""
    lines = request.headers.getall(name, ())
    return lines[-1].rpartition(",")[2].strip() if lines else ""


def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def _local_address(request: web.Request) -> str:
    """Host and port at which a request arrived, for a request whose `Host` is missing or not valid."""
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
