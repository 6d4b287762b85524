"""`#microsoft.graph.commsOperation`: the base type acknowledges."""

from tracker import Context, Operation, ResultInfo, handles
from tracker.domain.operation import DONE


@handles(Operation)
async def acknowledge(operation: Operation, context: Context) -> ResultInfo:  # noqa: ARG001 - a handler's signature
    """Answer 200/0, "Action completed successfully." (Graph's own words for a finished action)."""
    return DONE
