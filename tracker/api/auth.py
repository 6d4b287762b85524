"""Authentication: bearer tokens, of which the server knows the hashes only."""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from tracker.config import Settings
from tracker.errors import ConfigurationError, Unauthorized
from tracker.service import Caller

ANONYMOUS: Final = Caller(name="anonymous", tenant="default")

_NAME: Final = re.compile(r"[A-Za-z0-9._~@-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


class Callers:
    """The callers that have a token."""

    def __init__(self, by_hash: Mapping[str, Caller], *, anonymous: Caller | None = None) -> None:
        self._by_hash = by_hash
        self._anonymous = anonymous

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants whose callers have a token."""
        return frozenset(caller.tenant for caller in self._by_hash.values())

    def identify(self, authorization: str | None) -> Caller:
        """Find the caller by an `Authorization` header. Raises Unauthorized.

        Tokens are looked up by their hash, so that response times reveal no part of a token.
        """
        if self._anonymous is not None:
            return self._anonymous
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Send a token: Authorization: Bearer <token>.")
        caller = self._by_hash.get(hash_token(token.strip()))
        if caller is None:
            raise Unauthorized("The token is not known here.")
        return caller


def open_callers(settings: Settings) -> Callers:
    """Read the callers from the settings.

    Raises ConfigurationError for a malformed line, if there is no token at all, and for TRACKER_AUTH=none on an address
    that other machines can reach.
    """
    if settings.auth == "none":
        if not _is_loopback(settings.host):
            raise ConfigurationError(
                f"TRACKER_AUTH=none is for a loopback address only, and TRACKER_HOST is {settings.host}"
            )
        return Callers({}, anonymous=ANONYMOUS)
    by_hash: dict[str, Caller] = {}
    for position, digest, caller in _configured(settings):
        if by_hash.setdefault(digest, caller) != caller:
            raise ConfigurationError(f"{position} gives {caller.name} the token of {by_hash[digest].name}")
    if not by_hash:
        raise ConfigurationError(
            "no tokens are configured: make one with `tracker token` and put its line into TRACKER_TOKENS or the"
            " file that TRACKER_TOKENS_FILE names"
        )
    return Callers(by_hash)


def hash_token(token: str) -> str:
    """The hash by which a token is configured. Bytes that are not UTF-8, which aiohttp escapes, are hashed as sent."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _configured(settings: Settings) -> Iterator[tuple[str, str, Caller]]:
    """Position, hash and caller of every line. Raises ConfigurationError for a malformed line, without quoting it."""
    texts = {"TRACKER_TOKENS": settings.tokens}
    if settings.tokens_file is not None:
        texts[str(settings.tokens_file)] = _text(settings.tokens_file)
    for source, text in texts.items():
        for number, line in enumerate(text.splitlines(), start=1):
            entry = line.strip()
            if entry and not entry.startswith("#"):
                position = f"{source}, line {number}"
                yield position, *_parse(entry, position)


def _parse(entry: str, position: str) -> tuple[str, Caller]:
    match entry.split(":"):
        case [name, tenant, digest] if _NAME.fullmatch(name) and _NAME.fullmatch(tenant) and _HASH.fullmatch(digest):
            return digest.lower(), Caller(name=name, tenant=tenant)
        case _:
            raise ConfigurationError(f"{position} is not of the form name:tenant:sha256-of-token")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"TRACKER_TOKENS_FILE: {path} cannot be read: {error}") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
