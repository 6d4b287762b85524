"""Authentication: bearer tokens, of which the server knows the hashes only."""

from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.hdrs import AUTHORIZATION

from tracker.api.client_address import ClientAddresses, key_of
from tracker.api.guess_backoff import GuessBackoff
from tracker.api.headers import single
from tracker.api.held_requests import HeldRequests
from tracker.api.token_lines import read_callers, text_of
from tracker.config import Settings
from tracker.errors import ConfigurationError, TooManyRequests, Unauthorized
from tracker.service import Caller

ANONYMOUS: Final = Caller(name="anonymous", tenant="default")


class UnknownToken(Unauthorized):
    """The token is not known here."""


class Callers:
    """The callers that have a token. They can be replaced while requests are served."""

    def __init__(self, by_hash: Mapping[str, Caller], *, anonymous: Caller | None = None) -> None:
        self._by_hash = by_hash
        self._anonymous = anonymous
        self.held = HeldRequests(self.find)
        """The requests that wait or stream, which end when their token is removed."""

    def __len__(self) -> int:
        """How many tokens are known."""
        return len(self._by_hash)

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants of the callers."""
        callers = [*self._by_hash.values(), *([self._anonymous] if self._anonymous is not None else [])]
        return frozenset(caller.tenant for caller in callers)

    def identify(self, authorization: str | None) -> Caller:
        """Find the caller by an `Authorization` header. Raises UnknownToken, or Unauthorized if there is no token.

        Tokens are looked up by their hash, so that response times reveal no part of a token.
        """
        if self._anonymous is not None:
            return self._anonymous
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Send a token: Authorization: Bearer <token>.")
        caller = self._by_hash.get(hash_token(token.strip()))
        if caller is None:
            raise UnknownToken("The token is not known here.")
        return caller

    def find(self, authorization: str | None) -> Caller | None:
        """The caller of an `Authorization` header, or None."""
        try:
            return self.identify(authorization)
        except Unauthorized:
            return None

    def replace(self, by_hash: Mapping[str, Caller]) -> tuple[int, int]:
        """Know these callers from now on, and no others. Returns how many tokens were added and removed.

        A token that has got another caller counts as both. Requests whose token was removed, and that are still held,
        are ended.
        """
        added = len(by_hash.items() - self._by_hash.items())
        removed = len(self._by_hash.items() - by_hash.items())
        self._by_hash = by_hash
        if removed:
            self.held.end_unknown()
        return added, removed


class Authenticator:
    """Finds the caller of a request, and slows down addresses that guess tokens."""

    def __init__(self, settings: Settings, callers: Callers) -> None:
        self.callers = callers
        self.addresses = ClientAddresses(settings)
        self._backoff = GuessBackoff(settings.wrong_tokens)

    def caller_of(self, request: web.Request) -> Caller:
        """The caller of a request.

        Raises Unauthorized, Invalid for two `Authorization` headers, and TooManyRequests for a wrong token from an
        address that has sent many of them. A token that is known is never refused.
        """
        authorization = single(request.headers, AUTHORIZATION)
        try:
            return self.callers.identify(authorization)
        except UnknownToken:
            self._slow_down(request)
            raise

    def _slow_down(self, request: web.Request) -> None:
        """Count a wrong token. Nobody is slowed down whose address is not known, because many may share a proxy."""
        address = self.addresses.of(request)
        if address is not None and (wait := self._backoff.note(key_of(address))):
            raise TooManyRequests("Too many wrong tokens came from this address.", retry_after=wait) from None


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
    by_hash = read_callers(settings, "" if settings.tokens_file is None else text_of(settings.tokens_file))
    if not by_hash:
        raise ConfigurationError(
            "no tokens are configured: make one with `tracker token` and put its line into TRACKER_TOKENS or the"
            " file that TRACKER_TOKENS_FILE names"
        )
    return Callers(by_hash)


def hash_token(token: str) -> str:
    """The hash by which a token is configured. Bytes that are not UTF-8, which aiohttp escapes, are hashed as sent."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
