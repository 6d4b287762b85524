"""Idempotency keys, by which a create may be sent again and happens once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's idempotency key, kept for `seconds` together with what the request asked for.

    `digest` is the digest of the key; "" for a request without a key. `fingerprint` is the digest of what the request
    asked for. A request with the same key and another fingerprint is refused.
    """

    digest: str = ""
    fingerprint: str = ""
    seconds: int = 0


NO_KEY = IdempotencyKey()
"""The key of a request without one: nothing is kept."""
