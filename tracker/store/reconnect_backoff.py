"""Waiting for Redis to come back."""

import asyncio

from tracker.domain.lifecycle import backoff

FIRST, CAP = 0.1, 2.0
"""Seconds before another try: the first, doubled up to the cap, with full jitter."""


class ReconnectBackoff:
    """How long Redis has been away, in tries."""

    def __init__(self) -> None:
        self._tries = 0

    def __bool__(self) -> bool:
        """Whether it is away: somebody has waited, and it was not over since."""
        return self._tries > 0

    async def wait(self) -> None:
        """Wait before the next try."""
        self._tries += 1
        await asyncio.sleep(backoff(FIRST, CAP, self._tries))

    def over(self) -> None:
        """It answers again."""
        self._tries = 0
