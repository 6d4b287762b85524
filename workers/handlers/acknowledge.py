"""The handler of the base type, `#microsoft.graph.commsOperation`: it does nothing and succeeds."""

from tracker import Context, Operation, ResultInfo, handles
from tracker.domain.operation import DONE


@handles(Operation)
async def acknowledge(operation: Operation, context: Context) -> ResultInfo:  # noqa: ARG001 - a handler's signature
    """Return 200/0 with the message that Graph gives a finished action."""
    return DONE
