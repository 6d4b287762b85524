"""Workers, which run operations.

`workers.OperationWorker` is the class for `rq worker --worker-class`. `workers.OperationJob` is the class of jobs for
RQ's own workers: `rq worker --job-class`. `workers.OperationQueue` is the class of queues for RQ's tools: `rq info
--queue-class`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import a class for RQ when somebody asks for it.

    The API imports `workers.handlers` for the built-in types. With a class it would import RQ too, which takes 65 ms
    and 3 MiB of its 63 MiB.
    """
    if name in {"OperationJob", "OperationQueue"}:
        from workers import rq_job  # noqa: PLC0415 - see above

        return getattr(rq_job, name)
    if name == "OperationWorker":
        from workers.worker import OperationWorker  # noqa: PLC0415 - see above

        return OperationWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
