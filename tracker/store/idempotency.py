"""Requests that may be sent again without happening twice: what names one, and what tells it from another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for its request, by digest, remembered for so many seconds together with what it asked for.

    `told` is the digest of what it asked for: the same name with another is refused.
    """

    digest: str = ""
    told: str = ""
    seconds: int = 0


NO_KEY = IdempotencyKey()
"""For a request that its client gave no name: nothing is remembered."""
