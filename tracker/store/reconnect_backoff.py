"""Backoff between attempts to reach Redis again."""

import asyncio

from tracker.domain.lifecycle import backoff

FIRST_WAIT, MAX_WAIT = 0.1, 2.0
"""The longest wait before the first new attempt, and before any attempt, in seconds.

Each failed attempt doubles the longest wait, up to MAX_WAIT. The real wait is random between 0 and the longest (full
jitter).
"""


class ReconnectBackoff:
    """The state of one outage: how many times Redis was tried since it went away."""

    def __init__(self) -> None:
        self._tries = 0

    def __bool__(self) -> bool:
        """Whether Redis is away: `wait` was called, and `over` was not called since."""
        return self._tries > 0

    async def wait(self) -> None:
        """Wait before the next attempt."""
        self._tries += 1
        await asyncio.sleep(backoff(FIRST_WAIT, MAX_WAIT, self._tries))

    def over(self) -> None:
        """Redis answers again: the outage is over."""
        self._tries = 0
