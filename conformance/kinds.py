"""The operation types of the checks: they last as long, and end as, they are told."""

import asyncio

from tracker import Context, Operation, Rejected, ResultInfo, handles

STEPS = 4


class Timed(Operation, type="#conformance.timedOperation"):
    """Lasts so many seconds, tells of its progress in quarters, and ends as told."""

    seconds: float = 0.4
    fails: str | None = None


@handles(Timed, grace="1s")
async def pass_time(operation: Timed, context: Context) -> ResultInfo:
    """Wait, then succeed, or reject the input with the text of `fails`."""
    for step in range(STEPS):
        await context.progress(100 * step / STEPS, f"quarter {step + 1}")
        await asyncio.sleep(operation.seconds / STEPS)
    if operation.fails is not None:
        raise Rejected(operation.fails, 7)
    return ResultInfo(code=200, subcode=7, message="Time has passed.")
