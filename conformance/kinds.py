"""Operation type of the conformance tests. Its members say how long an operation runs and how it ends."""

import asyncio

from tracker import Context, Operation, Rejected, ResultInfo, handles

STEPS = 4
"""How many times an operation reports progress."""


class Timed(Operation, type="#conformance.timedOperation"):
    """Runs for `seconds`, reports progress in quarters, and fails with the message `fails` if there is a message."""

    seconds: float = 0.4
    fails: str | None = None


@handles(Timed, grace="1s")
async def pass_time(operation: Timed, context: Context) -> ResultInfo:
    """Sleep, then succeed, or reject the input with the message `fails`."""
    for step in range(STEPS):
        await context.progress(100 * step / STEPS, f"quarter {step + 1}")
        await asyncio.sleep(operation.seconds / STEPS)
    if operation.fails is not None:
        raise Rejected(operation.fails, 7)
    return ResultInfo(code=200, subcode=7, message="Time has passed.")
