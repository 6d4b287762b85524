"""Workers, which run operations. `workers.OperationWorker` is the class for `rq worker --worker-class`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the worker class when somebody asks for it. `workers.job` and the handlers do not need it."""
    if name == "OperationWorker":
        from workers.worker import OperationWorker  # noqa: PLC0415 - see above

        return OperationWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
