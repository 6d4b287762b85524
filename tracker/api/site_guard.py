"""The check of a request's host and site, which comes before everything else that is done for a request.

Without tokens, a web page of another site could use the API of the machine on which its reader's browser runs. Two ways
are closed here. The name of the other site may be made to point to this machine (DNS rebinding): then `Host` has that
name. Or the page sends a form or a `fetch` to this API: then the browser says so in `Origin` and `Sec-Fetch-Site`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from tracker.api.connection_limits import PROBES
from tracker.api.forwarded import host_name
from tracker.api.links import PublicUrl
from tracker.config import Settings
from tracker.errors import ConfigurationError, Forbidden, Invalid

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for the API's own pages, and for what a person does in the browser itself."""
WRONG_HOST: Final = "The API does not answer for this Host. TRACKER_ALLOWED_HOSTS names the hosts for which it does."
OTHER_SITE: Final = "This request comes from a page of another site, and such a page may change nothing here."

_ANY: Final = "*"
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*)")
_DEFAULT_PORT: Final = re.compile(r":(?:80|443)$")


class SiteGuard:
    """Refuses requests for another host. Without tokens, it also refuses changes that another site asks for."""

    def __init__(self, settings: Settings, public_url: PublicUrl) -> None:
        self._is_open = settings.auth == "none"
        self._public_url = public_url
        self._public_authority = urlsplit(settings.public_url).netloc
        public_name = host_name(self._public_authority)
        names = [word.lower().strip("[]").removesuffix(".") for word in settings.allowed_hosts]
        if self._is_open and _ANY in names:
            raise ConfigurationError("TRACKER_ALLOWED_HOSTS: * needs tokens; with TRACKER_AUTH=none name the hosts")
        self._takes_any_host = _ANY in names or not (self._is_open or names or public_name)
        self._names = {*names, public_name}
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))
        self._is_allowed = lru_cache(256)(self._allows)
        """Remembers hosts, for speed: nearly all requests name the same few."""

    def check(self, request: web.BaseRequest) -> None:
        """Raises Invalid for a request to another host, and Forbidden for a change that another site asks for."""
        if self._takes_any_host:
            return
        # Orchestrators call processes by their addresses, so that probes are served to any host.
        if not all(map(self._is_allowed, self._hosts(request))) and request.path not in PROBES:
            raise Invalid(WRONG_HOST, target="Host")
        if self._is_open and request.method not in SAFE_METHODS and self._is_of_another_site(request):
            raise Forbidden(OTHER_SITE)

    def _hosts(self, request: web.BaseRequest) -> Iterator[str]:
        """The hosts that must be allowed.

        A host that a trusted proxy names stands in place of the proxy's own `Host`. Without tokens both must be
        allowed, because a browser on the machine of a trusted proxy has the proxy's address.
        """
        forwarded = self._public_url.forwarded_host(request)
        if forwarded:
            yield forwarded
        if self._is_open or not forwarded:
            yield request.headers.get("Host", "")
            target = request.raw_path
            if target[:1] not in "/*":  # a URL in place of the path (RFC 9112, 3.2.2)
                yield _authority(target)

    def _allows(self, host: str) -> bool:
        name = host_name(host)
        return name is not None and (name in self._names or name.endswith(self._endings) or is_loopback(name))

    def _is_of_another_site(self, request: web.BaseRequest) -> bool:
        headers = request.headers
        if not OWN_SITE.issuperset(value.lower() for value in headers.getall("Sec-Fetch-Site", ())):
            return True
        origins = headers.getall("Origin", ())
        if not origins:
            return False
        hosts = self._public_authority, headers.get("Host", ""), self._public_url.forwarded_host(request)
        own = {_without_default_port(host) for host in hosts if host}
        return not own.issuperset(_without_default_port(_authority(origin)) for origin in origins)


def is_loopback(name: str) -> bool:
    """Whether a host name means this machine. An address must be written in full: other spellings are names."""
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


@lru_cache(256)
def _authority(url: str) -> str:
    """Host and port of a URL or of a bare `host:port`."""
    match = _AUTHORITY.match(url)
    return "" if match is None else match[1]


def _without_default_port(host: str) -> str:
    return _DEFAULT_PORT.sub("", host.lower())
