"""What a handler sees beside its operation (`tracker.Context`)."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any

DETAIL_LIMIT = 256
"""Characters of a progress report's text that are kept."""


class HandlerContext:
    """The handler's side of an attempt; lives in the handler's own process."""

    def __init__(
        self, *, operation_id: str, call_id: str, attempt: int, key: str, report: Callable[[Any], None]
    ) -> None:
        self.operation_id, self.call_id, self.attempt = operation_id, call_id, attempt
        self.idempotency_key = key
        self.cancel_requested = False
        self._report = report
        self._percent: float | None = None

    def progress(self, percent: float | None = None, detail: str = "") -> Awaitable[None]:
        """Report progress; see `tracker.Context`. Raises ValueError when `percent` is not within 0 to 100."""
        if percent is not None:
            if not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
                raise ValueError(f"percent must be within 0 and 100, not {percent}")
            self._percent = max(percent, self._percent or 0)
        whole = None if self._percent is None else int(self._percent)
        self._report({"progress": whole, "detail": detail[:DETAIL_LIMIT]})
        return _Done()


class _Done:
    """Something to await that is done already: a plain function need not await it."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
