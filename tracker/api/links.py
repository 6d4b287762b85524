"""Absolute URLs in responses, with the scheme, host and path prefix by which the client of the request called.

`lru_cache` is there for speed: plain code would quote the ids of calls anew in each request. That costs 2 % of the
instructions of `make bench-api`: create and read one.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import quote

from aiohttp import web

from tracker.api.forwarded import TrustedProxies, is_host
from tracker.config import Settings

PREFIXES: Final = ("", "/v1.0", "/beta")
"""Every path of Graph's API is served below each prefix. Links have the prefix of the request that they answer."""


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
    """The URL by which clients reach the API: TRACKER_PUBLIC_URL, else the address that each request was sent to.

    Every absolute URL in a response begins with `base`.
    """

    def __init__(self, settings: Settings) -> None:
        self._public = settings.public_url
        self._proxies = TrustedProxies(settings)

    def links(self, request: web.Request, *, prefix: str | None = None) -> Links:
        """The links of the response to a request, below this prefix; None for the request's own prefix."""
        return Links(f"{self.base(request)}{_prefix(request) if prefix is None else prefix}")

    def base(self, request: web.BaseRequest) -> str:
        """The URL of the API's root, without a slash at its end."""
        return self._public or self._address(request)

    def configured_base(self, request: web.BaseRequest) -> str:
        """The base, if TRACKER_PUBLIC_URL or a trusted proxy names any part of it; else ""."""
        return self._public or (self._address(request) if any(self._proxies.address_of(request)) else "")

    def path_of(self, request: web.Request, url: str) -> str | None:
        """Path and query of an absolute URL of this API; None for the URL of another server.

        Schemes are not compared: behind a proxy, a client may call by https what arrives here by http.
        """
        without_scheme = url.partition("://")[2]
        for root in (self._public, self._address(request)):
            own = root.partition("://")[2]
            rest = without_scheme[len(own) :]
            if own and without_scheme[: len(own)].lower() == own.lower() and rest[:1] in {"", "/", "?", "#"}:
                return rest
        return None

    def forwarded_host(self, request: web.BaseRequest) -> str:
        """The host by which a trusted proxy was called; "" if there is none."""
        return self._proxies.address_of(request).host

    def _address(self, request: web.BaseRequest) -> str:
        """Scheme, host and path prefix by which the client called."""
        scheme, host, prefix = self._proxies.address_of(request)
        host = host or request.headers.get("Host", "")
        return f"{scheme or request.scheme}://{host if is_host(host) else _local_address(request)}{prefix}"


def _prefix(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "" if resource is None else _prefix_of(resource.canonical)


@lru_cache(256)
def _prefix_of(path: str) -> str:
    return next((prefix for prefix in PREFIXES if prefix and path.startswith(f"{prefix}/")), "")


def _local_address(request: web.BaseRequest) -> str:
    """Host and port at which a request arrived, for a request whose `Host` is missing or not valid."""
    name = None if request.transport is None else request.transport.get_extra_info("sockname")
    match name:
        case (str(host), int(port)):
            return f"{host}:{port}"
        case (str(host), int(port), _, _):
            return f"[{host.partition('%')[0]}]:{port}"
        case _:
            return "localhost"
