"""The context that a handler gets beside its operation (see `tracker.Context`)."""

from collections.abc import Awaitable, Callable, Generator

DETAIL_LIMIT = 256
"""How many characters of a progress report's text are kept at most."""


class HandlerContext:
    """A handler's view of its attempt. It lives in the host; `report` sends the percentage and the text of a report."""

    def __init__(
        self,
        *,
        operation_id: str,
        call_id: str,
        attempt: int,
        key: str,
        report: Callable[[int | None, str], None],
    ) -> None:
        self.operation_id, self.call_id, self.attempt = operation_id, call_id, attempt
        self.idempotency_key = key
        self.cancel_requested = False
        self._report = report
        self._percent: float | None = None

    def progress(self, percent: float | None = None, detail: str = "") -> Awaitable[None]:
        """Report progress, as `tracker.Context` says.

        Raises ValueError when `percent` is not within 0 to 100, and TypeError when `detail` is no text.
        """
        if not isinstance(detail, str):
            raise TypeError(f"detail must be a text, not {type(detail).__name__}")
        if percent is not None:
            if not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
                raise ValueError(f"percent must be within 0 and 100, not {percent}")
            self._percent = max(percent, self._percent or 0)
        self._report(None if self._percent is None else int(self._percent), detail[:DETAIL_LIMIT])
        return _Done()


class _Done:
    """An awaitable that is done already. `progress` sends at once, so a plain function need not await it."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
