"""Long-running operations behind an HTTP API shaped like Microsoft Graph's `commsOperation`.

This is the whole public surface; everything else may change between releases.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.domain.hooks import on_start, on_stop
    from tracker.domain.operation import Operation, ResultInfo
    from tracker.domain.type_registry import Context, Rejected, Retry, handles
    from tracker.url_handlers.request import handles_url
    from tracker.url_handlers.response import BadAnswer, HandlerUnreachable

__all__ = [
    "BadAnswer",
    "Context",
    "HandlerUnreachable",
    "Operation",
    "Rejected",
    "ResultInfo",
    "Retry",
    "handles",
    "handles_url",
    "on_start",
    "on_stop",
]

_HOMES = {
    "BadAnswer": "tracker.url_handlers.response",
    "HandlerUnreachable": "tracker.url_handlers.response",
    "Operation": "tracker.domain.operation",
    "ResultInfo": "tracker.domain.operation",
    "handles_url": "tracker.url_handlers.request",
    "on_start": "tracker.domain.hooks",
    "on_stop": "tracker.domain.hooks",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line starts without pydantic."""
    if name not in __all__:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "tracker.domain.type_registry")), name)
