"""The address by which a trusted proxy was called: scheme, host and path prefix, from the headers that proxies add."""

import re
from typing import Final, NamedTuple

from aiohttp import web

from tracker.api.client_address import ClientAddresses
from tracker.api.headers import forwarded
from tracker.config import Settings

HEADERS: Final = ("Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix")
"""The headers of a proxy that this module reads."""
LONGEST_PREFIX: Final = 256
"""How many characters a prefix has at most."""

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_HOST: Final = re.compile(r"([A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&*+=:@-]+)+", re.ASCII)
"""Characters of paths (RFC 3986, 3.3) without quotes, percent-encoding and separators. No segment is empty or dots."""


class ForwardedAddress(NamedTuple):
    """The parts that a proxy names. A part that is missing or not valid is an empty text."""

    scheme: str = ""
    host: str = ""
    prefix: str = ""


NOTHING: Final = ForwardedAddress()


class TrustedProxies:
    """The proxies whose headers count."""

    def __init__(self, settings: Settings) -> None:
        self._addresses = ClientAddresses(settings)

    def address_of(self, request: web.BaseRequest) -> ForwardedAddress:
        """The address that the request's proxy names; NOTHING unless the settings trust the proxy."""
        if not self._addresses.is_proxy(request.remote):
            return NOTHING
        proto, host, port = _named(request)
        scheme = proto.lower() if proto.lower() in _DEFAULT_PORTS else ""
        if not is_host(host):
            host = ""
        own = request.headers.get("Host", "")
        with_port = _with_port(host or own, port, scheme or request.scheme)
        return ForwardedAddress(scheme, host if with_port == own else with_port, _prefix(request))


def is_host(text: str) -> bool:
    """Whether a text is a host name or an IP address, with or without a port."""
    return _HOST.fullmatch(text) is not None


def host_name(text: str) -> str | None:
    """The name or IP address of a host, without its port, in lower case; None if the text is no host.

    An IPv6 address has no brackets. The dot at the end of a complete name is left out.
    """
    match = _HOST.fullmatch(text)
    return None if match is None else match[1].lower().strip("[]").removesuffix(".")


def _named(request: web.BaseRequest) -> tuple[str, str, str]:
    """Scheme, host and port, all from `X-Forwarded-*` or all from `Forwarded`; "" for a part that is missing.

    A proxy that sets one of these headers may pass on the other as its client sent it, so that the two must not be
    mixed.
    """
    proto, host = _last(request, "X-Forwarded-Proto"), _last(request, "X-Forwarded-Host")
    lines = request.headers.getall("Forwarded", ())
    if proto or host or not lines:
        return proto, host, _last(request, "X-Forwarded-Port")
    element = forwarded(lines)
    return element.get("proto", ""), element.get("host", ""), ""


def _with_port(host: str, port: str, scheme: str) -> str:
    """The host with the proxy's port, unless the host has a port or the port is the default of the scheme."""
    match = _HOST.fullmatch(host)
    if match is None or match[2] or not _PORT.fullmatch(port) or port == _DEFAULT_PORTS[scheme]:
        return host
    return f"{host}:{port}"


def _prefix(request: web.BaseRequest) -> str:
    """The path below which the proxy serves the API. A proxy removes this path before it passes a request on."""
    prefix = _last(request, "X-Forwarded-Prefix").removesuffix("/")
    return prefix if len(prefix) <= LONGEST_PREFIX and _PREFIX.fullmatch(prefix) else ""


def _last(request: web.BaseRequest, name: str) -> str:
    """The last value of a header, which is the one that the nearest proxy has added."""
    lines = request.headers.getall(name, ())
    return lines[-1].rpartition(",")[2].strip() if lines else ""
