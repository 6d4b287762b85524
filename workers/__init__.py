"""The worker side: `workers.OperationWorker` is what `rq worker --worker-class` takes."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the worker when it is asked for: a handler's process needs none of it, nor of rq."""
    if name == "OperationWorker":
        from workers.worker import OperationWorker  # noqa: PLC0415 - see above

        return OperationWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
