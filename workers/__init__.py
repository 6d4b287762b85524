"""Workers, which run operations. `workers.OperationWorker` is the class for `rq worker --worker-class`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the worker class when somebody asks for it.

    The API imports `workers.handlers` for the built-in types. With the class it would import RQ too, which takes 65 ms
    and 3 MiB of its 63 MiB.
    """
    if name == "OperationWorker":
        from workers.worker import OperationWorker  # noqa: PLC0415 - see above

        return OperationWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
